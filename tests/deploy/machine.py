"""A machine for a test, run by a real systemd: it has this machine's programs and everything else of its own.

systemd is PID 1 of new mount, PID, network, UTS, IPC and cgroup namespaces. Its root is an overlay over this
machine's, kept in memory, so that packages can be installed and nothing is left here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.kernel.named import within
from tests.waiting import DEADLINE_S, until

_BOOT: Final = Path(__file__).with_name("boot")
_INIT: Final = Path("/lib/systemd/systemd")


class CannotBoot(Exception):
    """No systemd can be booted here; the message gives the reason."""


class Namespace:
    """A network namespace of a machine."""

    def __init__(self, path: str) -> None:
        self._path = path

    def inside(self) -> contextlib.AbstractContextManager[None]:
        """Enter the network namespace, and nothing else of the machine, for the block."""
        return within(self._path)


class Machine:
    """A machine that runs from ``with`` to its end. Raises CannotBoot."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._init = 0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ept-machine-")))
            cgroup = _make_cgroup()
            stack.callback(_remove_cgroup, cgroup)
            log = directory / "console"
            process = _unshare(directory / "mount", cgroup, log)
            stack.callback(process.wait)
            stack.callback(process.kill)
            self._await_init(process, log)
            stack.callback(self._end, process)
            self._await_boot(log)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def try_run(self, *command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        """Run a command on the machine as root with this input."""
        done = subprocess.run(
            ["nsenter", f"--target={self._init}", "--all", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
             "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", *command],
            input=stdin, capture_output=True, timeout=3 * DEADLINE_S, check=False,
        )  # fmt: skip
        return subprocess.CompletedProcess(
            command, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    def run(self, *command: str, stdin: bytes = b"") -> str:
        """Return the output of a command, which must succeed."""
        done = self.try_run(*command, stdin=stdin)
        if done.returncode != 0:
            journal = self.try_run("journalctl", "--no-pager", "--lines=40").stdout
            output = f"{done.stdout}{done.stderr}\n{journal}"
            raise AssertionError(f"{' '.join(command)}: exit status {done.returncode}\n{output}")
        return done.stdout

    def write(self, path: str, content: str | bytes) -> None:
        """Write a file and create its parent directories."""
        data = content.encode() if isinstance(content, str) else content
        self.run("sh", "-c", 'mkdir -p "${1%/*}" && cat >"$1"', "sh", path, stdin=data)

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit, as ``systemctl show`` prints it."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def processes(self, unit: str) -> list[int]:
        """Return the pids of a unit as the machine numbers them, in ascending order."""
        directory = self.show(unit, "ControlGroup")
        listed = self.try_run("cat", f"/sys/fs/cgroup{directory}/cgroup.procs").stdout if directory else ""
        return sorted(map(int, listed.split()))

    def namespace(self, name: str) -> Namespace:
        """Return a namespace that ``ip netns`` shows on the machine."""
        return Namespace(f"/proc/{self._init}/root/run/netns/{name}")

    def host_pid(self, pid: int) -> int:
        """Return the host's number of one of the machine's processes."""
        space = Path(f"/proc/{self._init}/ns/pid").stat()
        for directory in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                status = (directory / "status").read_text()
                numbers = status.partition("NSpid:")[2].partition("\n")[0].split()
                if int(numbers[-1]) == pid and os.path.samestat((directory / "ns" / "pid").stat(), space):
                    return int(directory.name)
        raise AssertionError(f"there is no process {pid}")

    def _await_init(self, process: subprocess.Popen[bytes], log: Path) -> None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

        def init() -> int:
            if process.poll() is not None:
                raise CannotBoot(f"unshare: {log.read_text(errors='replace').strip()}")
            found = children.read_text().split()
            return int(found[0]) if found else 0

        self._init = until(init)

    def _await_boot(self, log: Path) -> None:
        def booted() -> bool:
            if not Path(f"/proc/{self._init}").exists():
                raise CannotBoot(log.read_text(errors="replace").strip())
            return self.try_run("systemctl", "is-active", "machine.target").stdout == "active\n"

        until(booted, lambda: log.read_text(errors="replace"))

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._init, signal.SIGKILL)  # the kernel kills all others with PID 1
        process.wait(DEADLINE_S)


def _unshare(mountpoint: Path, cgroup: Path, log: Path) -> subprocess.Popen[bytes]:
    mountpoint.mkdir()
    namespaces = ("--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup")
    join = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
    with log.open("wb") as console:
        return subprocess.Popen(
            ["sh", "-c", join, str(cgroup), "unshare", *namespaces, "--fork", "--kill-child",
             str(_BOOT), str(mountpoint)],
            stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def _make_cgroup() -> Path:
    for program in ("systemctl", "unshare", "nsenter"):
        if shutil.which(program) is None:
            raise CannotBoot(f"{program} is missing: apt-get install systemd util-linux")
    if not _INIT.exists():
        raise CannotBoot(f"{_INIT} is missing: apt-get install systemd")
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        mount, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            try:
                made = Path(tempfile.mkdtemp(prefix="ept-machine-", dir=mount.split()[4]))
                made.chmod(0o755)  # the mode of the root cgroup
                return made
            except OSError as error:
                raise CannotBoot(f"no control group of its own: {error}") from error
    raise CannotBoot("cgroup2 is not mounted")


def _remove_cgroup(top: Path) -> None:
    def removed() -> bool:
        for directory, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):  # the kernel has not yet released a process in it
                Path(directory).rmdir()
        return not top.exists()

    until(removed, lambda: f"{top} is still in use")
