"""The table of faults: the effect of each on the traffic."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.deploy.manager import ServiceManager
from tests.scenarios.ctl import epairctl
from tests.scenarios.datagram_stream import DatagramStream, Outcome
from tests.scenarios.lab import EPAIRD, Daemon, Lab, pair
from tests.scenarios.page import Interface, Page
from tests.scenarios.transfers import BLUE, add_neighbour, ping
from tests.waiting import until

__all__ = ["ROWS", "Cable", "ManagedDaemon", "Row", "small_disk", "table"]


@dataclass(frozen=True, slots=True)
class Row:
    """One fault and its effect on the traffic."""

    fault: str
    rate: int
    """Datagrams sent a second."""
    outcome: Outcome
    accounted: int
    """Frames that a counter reports as lost."""

    @property
    def unaccounted(self) -> int:
        """Frames lost that no counter reports."""
        return self.outcome.lost - self.accounted


ROWS: list[Row] = []
"""The rows of this test run."""


def table() -> Iterator[str]:
    """Yield the table line by line."""
    heads = ("fault", "load", "sent", "gap", "lost", "accounted", "unaccounted", "order")
    cells = [heads] + [
        (
            row.fault, f"{row.rate} pps", str(row.outcome.sent), f"{row.outcome.gap_ms:.0f} ms",
            str(row.outcome.lost), str(row.accounted), str(row.unaccounted),
            "kept" if row.outcome.ordered else "broken",
        )
        for row in ROWS
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        first, *others = (
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        yield "  ".join([first, *others])


class Cable:
    """A cable from red to blue that carries only what the test sends, and the daemon that forwards it."""

    def __init__(
        self,
        lab: Lab,
        extra: str = "",
        *,
        start: Callable[..., Daemon] | None = None,
        **settings: Any,  # noqa: ANN401
    ) -> None:
        """``start`` replaces the laboratory's way of starting the daemon."""
        self.lab = lab
        start = start or lab.launch
        # Frames of a half that is patched into another pair are in the books of both.
        lab.home.disable_ipv6()
        self.red, self.blue = lab.namespace("red", ipv6=False), lab.namespace("blue", ipv6=False)
        self.daemon: Daemon = start(pair(ipv6=False) + extra, **{"workers": 1, **settings}).wait_ready()
        add_neighbour(self.red, self.blue, BLUE)

    def stream(self, rate: int = 20_000) -> DatagramStream:
        """Start traffic from red to blue."""
        return DatagramStream(self.red, self.blue, BLUE, rate)

    def page(self) -> Page:
        """Return the metrics page once no frame is in flight."""
        return self.daemon.at_rest()

    def wait_for_frames(self, frames: int = 2000) -> None:
        """Wait until this many more frames have crossed."""
        before = self._arrived()
        until(lambda: self._arrived() >= before + frames, self.daemon.__repr__)

    def record(self, fault: str, rate: int, before: Page, stream: DatagramStream) -> Row:
        """End the stream and add a row to the table.

        Checks that every lost frame is in a counter, that the order was kept and that no counter went back.
        """
        outcome = stream.end()
        after = self.page()
        row = Row(fault, rate, outcome, _errors(after) - _errors(before))
        ROWS.append(row)
        assert row.unaccounted == 0, row
        assert outcome.ordered, row
        for device in ("epair0a", "epair0b"):
            assert not after.interface(device).goes_back(before.interface(device))
        return row

    def assert_forwards(self) -> None:
        """Check that the cable forwards."""
        ping(self.red, BLUE)

    def restart(self) -> None:
        """Start another daemon in place of the one that has ended."""
        self.daemon = self.lab.restart(self.daemon).wait_ready()

    def ctl(self, *arguments: str) -> str:
        """Return the output of epairctl."""
        return epairctl(self.lab, *arguments)

    def ctl_until_failure(self, *arguments: str, times: int) -> str:
        """Repeat an epairctl command, at most ``times`` times, until it fails; return the error."""
        for _ in range(times):
            try:
                self.ctl(*arguments)
            except AssertionError as error:
                return str(error)
        raise AssertionError(f"{arguments}: never failed")

    def _arrived(self) -> int:
        """Return the kernel's count of frames received, which needs no daemon."""
        return self.blue.links()["eth0"].rx_packets


def _errors(page: Page) -> int:
    a, b = page.interface("epair0a"), page.interface("epair0b")
    return a.oqdrops + sum(a.oerrors.values()) + _ierrors(b)


def _ierrors(interface: Interface) -> int:
    return sum(interface.ierrors.values())


class ManagedDaemon(Daemon):
    """A daemon started as by a service manager, with the descriptors in the manager's store."""

    def __init__(
        self,
        lab: Lab,
        file: Path,
        manager: ServiceManager,
        wrapper: tuple[str, ...] = (),
        **environment: str,
    ) -> None:
        """``wrapper`` is a command in front of the daemon's, ``environment`` is added to its own."""
        self.lab = lab
        self.file = file
        stored = manager.unit.stored
        base = 200  # beyond the descriptors that the stored ones become
        redirections = "".join(f" {number}<&{base + number}" for number in range(3, 3 + len(stored)))
        environment = {
            **os.environ,
            **environment,
            "NOTIFY_SOCKET": manager.address,
            "LISTEN_FDS": str(len(stored)),
            "LISTEN_FDNAMES": ":".join(name for name, _ in stored),
        }
        with contextlib.ExitStack() as passed, lab.home.inside(), lab.marking():
            for number, (_, fd) in enumerate(stored, base + 3):
                os.dup2(fd, number)
                passed.callback(os.close, number)
            self.start(
                ("bash", "-c", f'export LISTEN_PID=$$; exec "$@"{redirections}', "-",
                 *wrapper, EPAIRD, "run", "--config", str(file)),
                env=environment,
                pass_fds=range(base + 3, base + 3 + len(stored)),
            )  # fmt: skip


def fill_up(disk: Path) -> Path:
    """Fill a small file system; return the file to remove so that there is room again."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    return filler


@contextlib.contextmanager
def small_disk(directory: Path, octets: int) -> Iterator[Path]:
    """Mount a file system with this capacity on a new directory."""
    directory.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={octets},mode=0755", "epaird-test", str(directory)], check=True
    )
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)
