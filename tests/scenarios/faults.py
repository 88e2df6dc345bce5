"""The table of faults: what became of the traffic when something happened to the daemon."""

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
from tests.scenarios.lab import EPAIRD, Daemon, Lab, pair
from tests.scenarios.paced import Outcome, Stream
from tests.scenarios.page import Interface, Page
from tests.scenarios.transfers import BLUE, ping
from tests.waiting import until

__all__ = ["ROWS", "Cable", "Managed", "Row", "small_disk", "table"]


@dataclass(frozen=True, slots=True)
class Row:
    """One fault."""

    fault: str
    rate: int
    """Datagrams a second that were sent meanwhile."""
    outcome: Outcome
    accounted: int
    """Frames that a counter says were lost."""

    @property
    def unaccounted(self) -> int:
        """Lost, and in no counter."""
        return self.outcome.lost - self.accounted


ROWS: list[Row] = []
"""Of this run."""


def table() -> Iterator[str]:
    """The rows as lines."""
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
    """A cable from red to blue over which nothing goes that nobody sent, and a daemon that carries it."""

    def __init__(
        self,
        lab: Lab,
        more: str = "",
        *,
        start: Callable[..., Daemon] | None = None,
        **settings: Any,  # noqa: ANN401
    ) -> None:
        """``start`` starts the daemon instead of the laboratory."""
        self.lab = lab
        start = start or lab.launch
        self.red, self.blue = lab.namespace("red", ipv6=False), lab.namespace("blue", ipv6=False)
        self.daemon: Daemon = start(pair(ipv6=False) + more, **{"workers": 1, **settings}).greeted()
        self.red.ip(f"neigh replace {BLUE} lladdr {self.blue.links()['eth0'].mac} dev eth0 nud permanent")

    def stream(self, rate: int = 20_000) -> Stream:
        """Traffic from red to blue."""
        return Stream(self.red, self.blue, BLUE, rate)

    def page(self) -> Page:
        """The page at rest."""
        return self.daemon.at_rest()

    def carries(self, frames: int = 2000) -> None:
        """Wait until so many more have crossed."""
        before = self._arrived()
        until(lambda: self._arrived() >= before + frames, self.daemon.__repr__)

    def row(self, fault: str, rate: int, before: Page, stream: Stream) -> Row:
        """End the stream and add a row to the table; see that nothing is lost that no counter has, that the
        order is kept, and that no counter went back."""
        outcome = stream.end()
        after = self.page()
        row = Row(fault, rate, outcome, _errors(after) - _errors(before))
        ROWS.append(row)
        assert row.unaccounted == 0, row
        assert outcome.ordered, row
        for device in ("epair0a", "epair0b"):
            assert not after.interface(device).goes_back(before.interface(device))
        return row

    def carries_on(self) -> None:
        """See that it carries."""
        ping(self.red, BLUE)

    def ctl(self, *arguments: str) -> str:
        """What epairctl says."""
        return epairctl(self.lab, *arguments)

    def ctl_fails(self, *arguments: str, times: int) -> str:
        """Have epairctl do something so often until it fails, and say how."""
        for _ in range(times):
            try:
                self.ctl(*arguments)
            except AssertionError as error:
                return str(error)
        raise AssertionError(f"{arguments}: never failed")

    def _arrived(self) -> int:
        """By the kernel's count, for which no daemon is needed."""
        return self.blue.links()["eth0"].rx_packets


def _errors(page: Page) -> int:
    a, b = page.interface("epair0a"), page.interface("epair0b")
    return a.oqdrops + sum(a.oerrors.values()) + _ierrors(b)


def _ierrors(interface: Interface) -> int:
    return sum(interface.ierrors.values())


class Managed(Daemon):
    """A daemon as a service manager starts it, with what is in the manager's store."""

    def __init__(self, lab: Lab, file: Path, manager: ServiceManager) -> None:
        self.lab = lab
        self.file = file
        stored = manager.unit.stored
        first = 200  # out of the way of those they become
        redirections = "".join(f" {number}<&{first + number}" for number in range(3, 3 + len(stored)))
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": manager.address,
            "LISTEN_FDS": str(len(stored)),
            "LISTEN_FDNAMES": ":".join(name for name, _ in stored),
        }
        with contextlib.ExitStack() as passed, lab.home.inside():
            for number, (_, fd) in enumerate(stored, first + 3):
                os.dup2(fd, number)
                passed.callback(os.close, number)
            self.start(
                ("bash", "-c", f'export LISTEN_PID=$$; exec "$@"{redirections}', "-",
                 EPAIRD, "run", "--config", str(file)),
                env=environment,
                pass_fds=range(first + 3, first + 3 + len(stored)),
            )  # fmt: skip


@contextlib.contextmanager
def small_disk(directory: Path, octets: int) -> Iterator[Path]:
    """A file system of its own in a directory, which has no more room than that."""
    directory.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={octets}", "epaird-test", str(directory)], check=True
    )
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)
