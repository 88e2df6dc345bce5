"""The models of the API's answers, filled from readings and plans."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Final

from epaird.client.impairment import LineStatistics
from epaird.client.models import Interface, InterfaceDetails, MissingInterface
from epaird.client.plans import PlannedAction, PlannedDetail, PlanReport
from epaird.client.statistics import InterfaceStatistics, Statistics, WorkerStatus
from epaird.client.workers import WorkerInfo
from epaird.control.readings import InterfaceReading, MissingReading, ProcessReading, Reading, WorkerReading
from epaird.plan.actions import CHANGE_NOTHING, Action

_INTERFACE: Final = tuple(field.name for field in fields(Interface))
_MISSING: Final = tuple(field.name for field in fields(MissingInterface))
_PROCESS: Final = tuple(field.name for field in fields(WorkerInfo))
_WORKER: Final = tuple(field.name for field in fields(WorkerStatus))


def interface(reading: InterfaceReading) -> Interface:
    """Return an interface without its counters."""
    return Interface(**_properties(reading))


def details(reading: InterfaceReading) -> InterfaceDetails:
    """Return an interface with its counters."""
    return InterfaceDetails(**_properties(reading), stats=reading.stats)


def missing(reading: MissingReading) -> MissingInterface:
    """Return an interface that is missing."""
    return MissingInterface(**{name: getattr(reading, name) for name in _MISSING})


def process(reading: ProcessReading) -> WorkerInfo:
    """Return a worker process."""
    found: dict[str, Any] = {name: getattr(reading, name) for name in _PROCESS}
    for name in ("capabilities", "namespaces", "missing"):
        found[name] = list(found[name])
    return WorkerInfo(**found)


def statistics(reading: Reading, time: float) -> Statistics:
    """Return all counters; ``time`` is in seconds of a clock that is never set."""
    return Statistics(
        time=time,
        interfaces=[
            InterfaceStatistics(device=each.device, name=each.name, netns=each.netns, stats=each.stats)
            for each in reading.interfaces
        ],
        workers=[_worker(each) for each in reading.workers],
        lines=[
            LineStatistics(each.device, each.peer, each.line.applied, each.line.expected, each.line.counters)
            for each in reading.interfaces
            if each.line is not None
        ],
    )


def plan(actions: Iterable[Action]) -> PlanReport:
    """Return a plan."""
    actions = tuple(actions)
    return PlanReport(
        changes=any(each.verb not in CHANGE_NOTHING for each in actions),
        actions=[_planned(each) for each in actions],
    )


def _planned(action: Action) -> PlannedAction:
    details = [PlannedDetail(each.key, each.old, each.new, each.note) for each in action.details]
    return PlannedAction(action.verb, action.kind, action.name, details, action.note)


def _properties(reading: InterfaceReading) -> dict[str, Any]:
    return {name: getattr(reading, name) for name in _INTERFACE}


def _worker(reading: WorkerReading) -> WorkerStatus:
    return WorkerStatus(**{name: getattr(reading, name) for name in _WORKER})
