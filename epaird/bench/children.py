"""The processes of a bench: started in its namespaces, listened to, measured, and ended."""

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
"""Our own, and nothing taken for a module of ours because it lies in the current directory."""
_LIFELINE: Final = (sys.executable, "-I", "-S", lifeline.__file__)
_PATIENCE_S: Final = 20.0
"""Beyond what a process has to do, how long it may take to say so on a busy machine."""
_END_S: Final = 20.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_SAID: Final = 2000
"""The last characters of what a process said that are worth repeating."""


class BenchError(Exception):
    """Something could not be measured; one line, and what a process of ours said about it."""


class Child:
    """A process in a namespace.  It has a process group of its own, so that Ctrl-C is ours alone, and
    ends with the block, or with us."""

    def __init__(
        self,
        command: Sequence[str],
        place: BenchNamespace,
        interruption: Interruption,
        *,
        end: int = signal.SIGKILL,
    ) -> None:
        """``end``: the signal that ends it.  Raises KernelError when the place cannot be entered."""
        self._command = command
        self._interruption = interruption
        self._end = end
        self._buffer = b""
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        with place.inside():
            self._process = subprocess.Popen(
                [*_LIFELINE, str(os.getpid()), str(int(end)), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
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
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            if stream is not None:
                stream.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def line(self, within: float = 0.0) -> str:
        """The next line it says, which may take so many seconds more than usual.

        Raises BenchError when none comes, Interrupted."""
        deadline = time.monotonic() + within + _PATIENCE_S
        while b"\n" not in self._buffer:
            if not self._more(deadline):
                raise self.failure("ended")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def rest(self, within: float = 0.0) -> str:
        """All it says until it ends.  Raises BenchError when it does not end, Interrupted."""
        deadline = time.monotonic() + within + _PATIENCE_S
        while self._more(deadline):
            pass
        text, self._buffer = self._buffer.decode(), b""
        return text

    def until(self, words: str) -> None:
        """Wait for a line with these words."""
        while words not in self.line():
            pass

    def begin(self) -> None:
        """Give it a line to read."""
        with contextlib.suppress(BrokenPipeError):
            assert self._process.stdin is not None  # noqa: S101 (we have asked for it)
            self._process.stdin.write(b"\n")

    def finish(self) -> None:
        """Let its stdin end."""
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.close()

    def failure(self, what: str) -> BenchError:
        """The error to raise, with what it said."""
        size = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, size - _SAID))
        said = self._said.read().decode(errors="replace").strip()
        name = " ".join(self._command[:5])
        return BenchError(f"{name}: {what}" + (f"; it said:\n{said}" if said else ""))

    def _more(self, deadline: float) -> bool:
        """Read more of what it says; False when it says no more."""
        assert self._process.stdout is not None  # noqa: S101
        fd = self._process.stdout.fileno()
        if not self._interruption.readable(fd, deadline):
            raise self.failure("does not answer")
        data = os.read(fd, 1 << 16)
        self._buffer += data
        return bool(data)


def process_tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found, waiting = [], [pid]
    while waiting:
        current = waiting.pop()
        found.append(current)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{current}/task").iterdir():
                waiting.extend(map(int, (task / "children").read_text().split()))
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all that descend from it."""
    return sum(_cpu_seconds(each) for each in process_tree(pid))


def _cpu_seconds(pid: int) -> float:
    """To the nanosecond where the kernel keeps it so (CONFIG_SCHED_INFO), else to the tick."""
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
