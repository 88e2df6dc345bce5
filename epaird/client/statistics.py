"""Counters of all interfaces and the state of all workers, as the API answers with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from epaird.client.base import Model
from epaird.client.counters import InterfaceCounters
from epaird.client.impairment import LineStatistics


@dataclass(frozen=True)
class InterfaceStatistics(Model):
    """Counters of one interface."""

    device: str
    """Name of the interface, which it keeps for life: `epair0a`."""
    name: str
    """Present name of its device: `eth0`."""
    netns: str
    """Namespace of its device: `red`; empty for the daemon's own."""
    stats: InterfaceCounters
    """Counters of the interface."""

    @classmethod
    def arguments(cls, document: Mapping[str, Any]) -> dict[str, Any]:
        return super().arguments(document) | {"stats": InterfaceCounters.parse(document["stats"])}


@dataclass(frozen=True)
class WorkerStatus(Model):
    """A worker."""

    worker: str
    """Number of the worker: `0`."""
    queue_frames: int
    """Frames that wait in its queue."""
    queue_limit: int
    """Frames that its queue may hold."""
    drain_list: int
    """Interfaces that wait for their receivers to drain."""
    oactive: bool
    """True while the output of one of its interfaces is blocked (IFF_OACTIVE)."""
    restarts: int
    """Times that its process died and was replaced."""
    cpu_seconds: float
    """User and system time of all its processes together."""
    alive: bool
    """True if its event loop turned within the last second."""


@dataclass(frozen=True)
class Statistics(Model):
    """All counters at one moment."""

    time: float
    """Seconds of a clock that is never set: rates are computed from it."""
    interfaces: list[InterfaceStatistics]
    """Counters of each interface."""
    workers: list[WorkerStatus]
    """State of each worker."""
    lines: list[LineStatistics] = field(default_factory=list)
    """Impairment of what each interface transmits, of those that were ever impaired."""

    @classmethod
    def arguments(cls, document: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "time": document["time"],
            "interfaces": [InterfaceStatistics.parse(each) for each in document["interfaces"]],
            "workers": [WorkerStatus.parse(each) for each in document["workers"]],
            "lines": [LineStatistics.parse(each) for each in document.get("lines", ())],
        }
