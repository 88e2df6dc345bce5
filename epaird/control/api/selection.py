"""Interfaces that a request selects, in the order of their kinds and numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Query

from epaird.control.readings import InterfaceReading, MissingReading
from epaird.kernel.namespace import path_of
from epaird.names.cloners import order

NetnsQuery = Annotated[
    str | None,
    Query(description="Only interfaces in this namespace, by name or path; empty for the daemon's own."),
]
DropsQuery = Annotated[bool, Query(description="Only interfaces that have lost frames.")]


@dataclass(frozen=True, slots=True)
class Selection:
    """Conditions that an interface has to fulfil."""

    kind: str | None = None
    """The interface's kind; None for any."""
    netns: str | None = None
    """The namespace of its device, empty for the daemon's own; None for any."""
    drops: bool = False
    """True for interfaces that have lost frames, whatever the reason."""

    def missing(self, readings: Iterable[MissingReading]) -> list[MissingReading]:
        """Return the missing interfaces of the kind and the namespace, in the same order."""
        found = (
            each
            for each in readings
            if self.kind in (None, each.kind)
            and (self.netns is None or _same_namespace(self.netns, each.netns))
        )
        return sorted(found, key=lambda each: order(each.device))

    def of(self, readings: Iterable[InterfaceReading]) -> list[InterfaceReading]:
        """Return the interfaces that fulfil every condition, ``epair2a`` before ``epair10a``."""
        return sorted(filter(self._includes, readings), key=lambda each: order(each.device))

    def _includes(self, reading: InterfaceReading) -> bool:
        return (
            self.kind in (None, reading.kind)
            and (self.netns is None or _same_namespace(self.netns, reading.netns))
            and (not self.drops or _drops(reading) > 0)
        )


def _same_namespace(one: str, other: str) -> bool:
    """Return whether two names or paths of namespaces mean the same one; empty is the daemon's own."""
    return one == other or ("" not in (one, other) and path_of(one) == path_of(other))


def _drops(reading: InterfaceReading) -> int:
    stats = reading.stats
    return stats.oqdrops + sum(stats.ierrors.values()) + sum(stats.oerrors.values())
