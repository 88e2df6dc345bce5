"""Adversaries: hostile names, kills during an adoption, a log that is not read, resources that run out."""

from __future__ import annotations

import contextlib
import resource
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from epaird.client.client import Client
from epaird.kernel.printable import printable
from tests.scenarios.ctl import control_socket
from tests.scenarios.faults import fill_up
from tests.soak.expected import Expected
from tests.soak.footprint import descriptors
from tests.soak.operations.failures import ControlDies, WorkerDies
from tests.soak.operations.namespaces import WithSomethingBetween
from tests.soak.operations.operation import Operation
from tests.soak.pipeddaemon import PIPE_BYTES
from tests.soak.site import Site
from tests.waiting import until

NAME: Final = "epair62"
"""The pair of these operations; destroyed at the end of each."""
HALF: Final = f"{NAME}a"
NAMES: Final = (
    b"e\xff\x1b[31m\\x1b\x7f",
    b"\x1b]0;owned\x07",
    b"\"'{=#\\",
    b"\xed\xb0\x81\xff",
    "\u202e\u05d0\u2028".encode(),
)
"""Names that Linux accepts: not UTF-8, or with what controls a terminal, a TOML file or the log."""
CHANGES: Final = 60
"""Changes whose log lines fill the pipe of the log."""
LOST: Final = 1500
"""Changes whose log lines are more than wait to be written."""
WHILE_UNREAD: Final = ("nothing", "lines lost", "worker 0 killed", "upgrade", "control plane killed")


@dataclass(frozen=True, slots=True)
class HostileName(WithSomethingBetween):
    """The owner of a namespace renames a device to any bytes, and back."""

    device: str
    kernel_name: str
    netns: str
    name: bytes
    times: int
    """Number of times in a row."""

    def __str__(self) -> str:
        often = f" {self.times} times" * (self.times > 1)
        return self.described(f"{self.device} renamed to {printable(self.name)}{often}, and back")

    def act(self, site: Site) -> None:
        netns = site.lab.namespace_of(site.expand(self.netns))
        index = netns.links("tun")[self.kernel_name].index
        for number in range(1, self.times):
            netns.rename(index, b"\xfe\x1b%d" % number)
        netns.rename(index, self.name)
        shown = printable(self.name)
        until(lambda: site.interface(self.device)["name"] == shown, site.recent)
        assert site.daemon.metrics().interface(self.device).name == shown
        for request in (("list",), ("show", self.device), ("save",)):
            output = site.ctl(*request)
            assert all(line.isprintable() for line in output.splitlines()), output
        self.do_between(site)
        assert site.interface(self.device)["name"] == shown
        netns.rename(index, self.kernel_name.encode())
        until(lambda: site.interface(self.device)["name"] == self.kernel_name, site.recent)


@dataclass(frozen=True, slots=True)
class KilledDuringAdoption(Operation):
    """The control plane is killed, and then workers while its successor starts.

    They are killed once the successor has every device: outside a service manager, which keeps descriptors,
    a device ends with the last process that has it open."""

    numbers: tuple[int, ...]
    """The workers that are killed."""
    delay_ms: int
    """Milliseconds after the successor has every device."""
    first_ms: int | None
    """Milliseconds from the start of a first successor until it is killed; None if there is only one."""
    may_lose_frames = True
    restarts_uncertain = True
    new_control_plane = True

    def __str__(self) -> str:
        first = "" if self.first_ms is None else f", its successor after {self.first_ms} ms"
        workers = ", ".join(f"worker {number}" for number in self.numbers)
        return f"control plane killed{first}, {workers} killed {self.delay_ms} ms into the adoption"

    def act(self, site: Site) -> None:
        pids = [site.worker(number) for number in self.numbers]
        site.daemon.signal(signal.SIGKILL)
        site.launch_successor()
        if self.first_ms is not None:
            time.sleep(self.first_ms / 1000)
            site.daemon.signal(signal.SIGKILL)
            site.launch_successor()
        queues = site.expected.queues
        until(lambda: descriptors([site.daemon.pid]).get("tun", 0) >= queues, site.recent)
        time.sleep(self.delay_ms / 1000)
        for pid in pids:
            site.kill(pid)
        site.daemon.wait_ready()

    def expect(self, expected: Expected) -> None:
        expected.take_over()
        for number in self.numbers:
            expected.restarts[number] += 1


@dataclass(frozen=True, slots=True)
class LogUnread(Operation):
    """Nothing reads the log for a while; something happens while lines wait."""

    what: str
    """One of ``WHILE_UNREAD``."""

    @property
    def may_lose_frames(self) -> bool:  # type: ignore[override]
        return self.what == "worker 0 killed"

    @property
    def new_control_plane(self) -> bool:  # type: ignore[override]
        return self.what in ("upgrade", "control plane killed")

    def __str__(self) -> str:
        return f"nothing reads the log, {self.what}"

    def act(self, site: Site) -> None:
        site.ctl("create", NAME)
        with self._outcome(site), site.daemon.unread():
            _change(site, LOST if self.what == "lines lost" else CHANGES)
            assert site.daemon.unread_bytes > PIPE_BYTES / 2
            assert site.daemon.healthz() == 200
            match self.what:
                case "lines lost":
                    assert site.daemon.metrics().value("epaird_log_lines_lost_total")
                case "worker 0 killed":
                    WorkerDies(0).act(site)
                case "upgrade":
                    site.ctl("upgrade")
                case "control plane killed":
                    site.daemon.signal(signal.SIGKILL)
        if self.what == "control plane killed":
            site.restart_daemon()
        site.ctl("destroy", NAME)

    def _outcome(self, site: Site) -> contextlib.AbstractContextManager[None]:
        """Wait at the end of the block, once the log is read again, for the line that it must have."""
        match self.what:
            case "lines lost":
                return site.expect_log("lines of the log were lost here")
            case "worker 0 killed":
                return site.expect_log("again (pid")
            case "upgrade":
                return site.expect_log("upgraded to")
        return contextlib.nullcontext()

    def expect(self, expected: Expected) -> None:
        if self.what == "worker 0 killed":
            expected.restarts[0] += 1
        elif self.new_control_plane:
            expected.take_over()


@dataclass(frozen=True, slots=True)
class RunDirectoryFull(WithSomethingBetween):
    """The file system of the run directory is full for a while."""

    def __str__(self) -> str:
        return self.described("run directory full")

    def act(self, site: Site) -> None:
        with _filled(control_socket(site.lab).parent):
            if self._dies:  # what its successor reads is the state before the disk was full
                self.do_between(site)
            site.ctl("create", NAME)
            _change(site, CHANGES)
            until(lambda: site.daemon.metrics().value("epaird_state_write_errors_total"), site.recent)
            assert site.daemon.healthz() == 200
            if not self._dies:
                self.do_between(site)
            assert site.has(NAME)
        site.wait_until_saved(NAME)
        site.ctl("destroy", NAME)

    @property
    def _dies(self) -> bool:
        return isinstance(self.between, ControlDies)


@dataclass(frozen=True, slots=True)
class RunDirectoryEmptied(WithSomethingBetween):
    """Every file of the run directory is removed; the daemon makes them again."""

    def __str__(self) -> str:
        return self.described("run directory emptied")

    def act(self, site: Site) -> None:
        for path in control_socket(site.lab).parent.iterdir():
            path.unlink(missing_ok=True)
        until(lambda: site.files() >= site.run_directory(), site.recent)
        self.do_between(site)


@dataclass(frozen=True, slots=True)
class DescriptorsExhausted(Operation):
    """The control plane has as many descriptors as it may have, and a worker is killed."""

    number: int
    more: int
    """Descriptors that may still be opened."""
    may_lose_frames = True

    def __str__(self) -> str:
        return f"{self.more} descriptors left, worker {self.number} killed"

    def act(self, site: Site) -> None:
        until(site.daemon.spares)
        with self._limited(site):
            error = site.refused("create", NAME)
            assert "too many open files" in error, error
            assert site.ctl("list")
            WorkerDies(self.number).act(site)
            until(site.daemon.spares)
            assert site.daemon.healthz() == 200
        site.ctl("create", NAME)
        site.ctl("destroy", NAME)

    @contextlib.contextmanager
    def _limited(self, site: Site) -> Iterator[None]:
        """Lower the limit of the control plane for the block."""
        daemon = site.daemon.pid
        before = resource.prlimit(daemon, resource.RLIMIT_NOFILE)
        limit = sum(descriptors([daemon]).values()) + self.more
        resource.prlimit(daemon, resource.RLIMIT_NOFILE, (limit, before[1]))
        try:
            yield
        finally:
            resource.prlimit(daemon, resource.RLIMIT_NOFILE, before)

    def expect(self, expected: Expected) -> None:
        expected.restarts[self.number] += 1


def _change(site: Site, times: int) -> None:
    """Change the pair so many times."""
    client = Client(str(control_socket(site.lab)))
    for number in range(times):
        client.change(HALF, {"mtu": 1400 + number % 2})


@contextlib.contextmanager
def _filled(directory: Path) -> Iterator[None]:
    """Fill the file system of a directory for the block."""
    filler = fill_up(directory)
    try:
        yield
    finally:
        filler.unlink()
