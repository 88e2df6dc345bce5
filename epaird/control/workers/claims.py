"""What a worker process may report: only about what it was given, and not without end.

A process answers requests, of which there are as many as the control plane sends. Everything else is a
report: a few for each of its interfaces. Reports are counted against an allowance that grows with time and
with the number of its interfaces, far above what a worker sends.

An interface stays known for a while after it was detached, since a report may be late.

Time is a parameter, in seconds of CLOCK_MONOTONIC.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from epaird.control.tokenbucket import Rate, TokenBucket
from epaird.ipc.encoding import InvalidMessage
from epaird.ipc.messages import CableSpec, Drained, Gone, Message, Overflow, UnknownFamily

REPORTS: Final = 4096
"""Reports allowed at once, besides those of interfaces: as many as wait when the control plane was stopped
for some minutes."""
REPORTS_PER_PORT: Final = 64
"""Reports allowed at once for each interface."""
REPORTS_A_SECOND: Final = 64
"""Reports allowed in a second, besides those of interfaces."""
REPORTS_A_SECOND_PER_PORT: Final = 16
"""Reports allowed in a second for each interface: a worker sends 8 at most (OVERFLOW_S)."""
LATE_S: Final = 60.0
"""Seconds after which no report about an interface that was detached comes."""


class Claims:
    """The interfaces that one process was given, and its allowance of reports."""

    def __init__(self, now: float) -> None:
        self._given: dict[str, frozenset[str]] = {}
        """Names of interfaces by cable."""
        self._detached: dict[str, tuple[float, frozenset[str]]] = {}
        """By cable, when it was detached, and its interfaces; the one detached first is first."""
        self._known: Counter[str] = Counter()
        """Names of interfaces in both, each with the number of its cables."""
        self._ports = 0
        self._rate = Rate(REPORTS, REPORTS_A_SECOND)
        self._bucket = TokenBucket(self._rate, now)

    def give(self, cables: Iterable[CableSpec]) -> None:
        """Record that the process is given cables."""
        for cable in cables:
            _, before = self._detached.pop(cable.name, (0, frozenset[str]()))
            names = frozenset(port.name for port in cable.ports)
            self._known.subtract(before | self._given.get(cable.name, frozenset()))
            self._known.update(names)
            self._ports += len(names) - len(self._given.get(cable.name, ()))
            self._given[cable.name] = names
        self._allow()

    def withdraw(self, cable: str, now: float) -> None:
        """Record that the process has detached a cable."""
        names = self._given.pop(cable, None)
        if names is not None:
            self._ports -= len(names)
            self._allow()
            self._detached[cable] = now, names
        while self._detached:
            first = next(iter(self._detached))
            since, names = self._detached[first]
            if now - since <= LATE_S:
                break
            del self._detached[first]
            self._known.subtract(names)
            for name in names:
                if not self._known[name]:
                    del self._known[name]

    def check(self, report: Message, now: float) -> None:
        """Check a message that is no answer to a request. Raises InvalidMessage."""
        if not self._bucket.take(now):
            raise InvalidMessage(
                f"it sends more than {self._rate.per_s} messages a second that are no answers"
            )
        match report:
            case Gone():
                if report.name not in self._names(report.cable):
                    raise InvalidMessage(f"it was not given {report.name} of {report.cable}")
            case Drained():
                if not self._names(report.cable):
                    raise InvalidMessage(f"it was not given {report.cable}")
            case Overflow() | UnknownFamily():
                if report.name and not self._known[report.name]:
                    raise InvalidMessage(f"it was not given {report.name}")

    def _allow(self) -> None:
        self._rate = Rate(
            REPORTS + REPORTS_PER_PORT * self._ports,
            REPORTS_A_SECOND + REPORTS_A_SECOND_PER_PORT * self._ports,
        )
        self._bucket.change(self._rate)

    def _names(self, cable: str) -> frozenset[str]:
        _, detached = self._detached.get(cable, (0, frozenset[str]()))
        return self._given.get(cable, detached)
