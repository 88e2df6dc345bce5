"""Processes of a bench: start them in its namespaces, read their output, measure and end them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from epaird.bench import lifeline
from epaird.bench.interruption import Interruption
from epaird.bench.namespaces import BenchNamespace

PYTHON: Final = (sys.executable, "-P")
"""The running Python. -P keeps it from importing modules from the current directory."""
_LIFELINE: Final = (sys.executable, "-I", "-S", lifeline.__file__)
_ANSWER_MARGIN_S: Final = 20.0
"""Time for an answer on a busy machine, beyond the duration of the process's work."""
_EXIT_TIMEOUT_S: Final = 20.0
"""Time for a process to exit after its signal, before it is killed with its descendants."""
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_STDERR_SHOWN: Final = 2000
"""Bytes of a process's stderr that an error message repeats, from its end."""


class BenchError(Exception):
    """A failed measurement. One line, followed by the stderr of the process that failed."""


class Child:
    """A process in a namespace.

    It has a process group of its own, so that Ctrl-C reaches only the bench, and ends with the block or
    with the bench.
    """

    def __init__(
        self,
        command: Sequence[str],
        namespace: BenchNamespace,
        interruption: Interruption,
        *,
        end: int = signal.SIGKILL,
    ) -> None:
        """``end`` is the signal that ends it. Raises KernelError when the namespace cannot be entered."""
        self._command = command
        self._interruption = interruption
        self._end = end
        self._buffer = b""
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        with namespace.inside():
            self._process = subprocess.Popen(
                [*_LIFELINE, str(os.getpid()), str(int(end)), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                bufsize=0,
                process_group=0,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        family = process_tree(self.pid) if self._process.poll() is None else []
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(self._end)
        try:
            self._process.wait(_EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            if stream is not None:
                stream.close()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """True until the process has exited."""
        return self._process.poll() is None

    def line(self, within: float = 0.0) -> str:
        """Return the next line of its stdout, which may take ``within`` seconds more than usual.

        Raises BenchError when no line comes, Interrupted.
        """
        deadline = time.monotonic() + within + _ANSWER_MARGIN_S
        while b"\n" not in self._buffer:
            if not self._read_more(deadline):
                raise self.failure("ended")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def rest(self, within: float = 0.0) -> str:
        """Return the rest of its stdout. Raises BenchError when it does not end, Interrupted."""
        deadline = time.monotonic() + within + _ANSWER_MARGIN_S
        while self._read_more(deadline):
            pass
        text, self._buffer = self._buffer.decode(), b""
        return text

    def until(self, words: str) -> None:
        """Wait for a line that contains ``words``. Raises BenchError, Interrupted."""
        while words not in self.line():
            pass

    def begin(self) -> None:
        """Write an empty line to its stdin."""
        with contextlib.suppress(BrokenPipeError):
            assert self._process.stdin is not None  # noqa: S101 (opened with PIPE)
            self._process.stdin.write(b"\n")

    def finish(self) -> None:
        """Close its stdin."""
        assert self._process.stdin is not None  # noqa: S101 (opened with PIPE)
        self._process.stdin.close()

    def failure(self, cause: str) -> BenchError:
        """Return an error that names the command, the cause and the end of its stderr."""
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - _STDERR_SHOWN))
        stderr = self._stderr.read().decode(errors="replace").strip()
        name = " ".join(self._command[:5])
        return BenchError(f"{name}: {cause}" + (f"; its stderr:\n{stderr}" if stderr else ""))

    def _read_more(self, deadline: float) -> bool:
        """Read more of its stdout; return False at the end of it."""
        assert self._process.stdout is not None  # noqa: S101 (opened with PIPE)
        fd = self._process.stdout.fileno()
        if not self._interruption.readable(fd, deadline):
            raise self.failure("does not answer")
        data = os.read(fd, 1 << 16)
        self._buffer += data
        return bool(data)


def process_tree(pid: int) -> list[int]:
    """Return the pids of a process and all its descendants, the process first."""
    found, waiting = [], [pid]
    while waiting:
        current = waiting.pop()
        found.append(current)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{current}/task").iterdir():
                waiting.extend(map(int, (task / "children").read_text().split()))
    return found


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process and all its descendants, in seconds."""
    return sum(_cpu_seconds(member) for member in process_tree(pid))


def _cpu_seconds(pid: int) -> float:
    """The resolution is a nanosecond where the kernel has CONFIG_SCHED_INFO, otherwise a tick."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except OSError:
        pass
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS
