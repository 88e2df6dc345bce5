"""What the API says and is told, in JSON: pydantic models of frozen readings and of requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from epaird.control.operations import Event
from epaird.control.readings import InterfaceReading, Reading, WorkerReading
from epaird.ipc.counters import REASONS
from epaird.plan.actions import Action, Verb

COUNTERS: Final = ("opackets", "obytes", "omcasts", "oqdrops", "ipackets", "ibytes", "imcasts")


class Answer(BaseModel):
    """Something the API says."""

    model_config = ConfigDict(frozen=True)


class Request(BaseModel):
    """Something the API is told: nothing in it but the keys it knows, each of its own type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Settings = Annotated[
    dict[str, Any],
    Field(
        description="Keys and values as in the configuration's table for the interface: of a pair, those of "
        "[epair.epair0], its halves' in `a` and `b`; of a half, those of [epair.epair0.a]; of a loopback, "
        "those of [lo.lo1].",
        examples=[{"a": {"netns": "red", "mtu": 9000}}],
    ),
]


class Create(Request):
    """An interface to be made."""

    name: str = Field(
        description="A kind, for the lowest free number, or a name.", examples=["epair", "epair7", "lo1"]
    )
    settings: Settings = {}


class Patch(Request):
    """The half to plug into."""

    peer: str = Field(examples=["epair5b"])
    force: bool = Field(default=False, description="Also when the peer is plugged into another.")


class Reload(Request):
    """How the configuration is to be read again."""

    dry_run: bool = Field(default=False, description="Only say what would be done.")


class File(Request):
    """A configuration that might be."""

    text: str = Field(description="TOML.", examples=["[epair.epair0]\n"])
    name: str = Field(default="the file", description="What messages call it.", examples=["new.toml"])


class PlanDetail(Answer):
    """A key that changes, or what is put back."""

    key: str = Field(examples=["a.mtu"])
    old: str = Field(description="As it is; empty when it is missing.")
    new: str
    note: str = Field(description="Why it cannot be had in place, or what else is to be known.")


class PlanAction(Answer):
    """What becomes of one thing."""

    verb: Verb = Field(
        description="recreate: destroyed and created; restore: what others took away is put back; adopt: "
        "what was made at runtime is the configuration's, and nothing is done to it; restart: only a restart "
        "of the daemon does it."
    )
    kind: str = Field(examples=["epair", "lo", "namespace", "daemon"])
    name: str
    details: list[PlanDetail]
    note: str = Field(description="Why, where nobody has asked for it, or what else is to be known.")


class Plan(Answer):
    """What a reload does."""

    changes: bool = Field(description="Whether it does anything.")
    actions: list[PlanAction]


class Created(Answer):
    """An interface that was made."""

    name: str = Field(examples=["epair7"])


class Counters(Answer):
    """What an interface has sent (o) and got (i), from its owner's viewpoint, since it was made."""

    opackets: int
    obytes: int
    omcasts: int
    oqdrops: int
    ipackets: int
    ibytes: int
    imcasts: int
    oerrors: dict[str, int] = Field(description="By reason.")
    ierrors: dict[str, int] = Field(description="By reason.")


class Interface(Answer):
    """An interface: a half of a pair, or a loopback."""

    device: str = Field(description="Its own name, which it keeps for life.", examples=["epair0a"])
    kind: str = Field(description="The cloner that made it.", examples=["epair", "lo"])
    pair: str = Field(description="The pair it is a half of; empty for a loopback.", examples=["epair0"])
    half: str = Field(description="Which half; empty for a loopback.", examples=["a", "b"])
    peer: str = Field(description="The half it is plugged into; empty for none.", examples=["epair0b"])
    origin: str = Field(description="Who asked for it.", examples=["configuration", "runtime"])
    name: str = Field(description="The device's name where it lives now.", examples=["eth0"])
    netns: str = Field(description="The namespace it lives in; empty for the daemon's own.", examples=["red"])
    mac: str = Field(examples=["02:5d:11:22:33:0a"])
    worker: str = Field(description="Which worker forwards it.", examples=["0"])
    up: bool
    carrier: bool
    mtu: int = Field(description="Bytes.")
    refs: int = Field(description="1, and 1 for each frame in flight to it and each drain list it is on.")
    held_bytes: int = Field(description="Memory of the frames that wait to be delivered to it.")
    oactive: bool = Field(description="Output is blocked.")


class InterfaceDetails(Interface):
    """An interface and its counters."""

    stats: Counters


class Worker(Answer):
    """A worker."""

    worker: str
    queue_frames: int
    queue_limit: int
    drain_list: int = Field(description="Interfaces waiting for its queue to drain.")
    oactive: bool
    restarts: int
    cpu_seconds: float
    alive: bool


class InterfaceStatistics(Answer):
    """An interface's counters."""

    device: str
    name: str
    netns: str
    stats: Counters


class Statistics(Answer):
    """Every counter at one moment."""

    time: float = Field(description="When, in seconds of a clock that is never set: for rates.")
    interfaces: list[InterfaceStatistics]
    workers: list[Worker]


class Happened(Answer):
    """Something that happened to an interface, or to a worker's queue."""

    time: float = Field(description="Seconds since the epoch.")
    what: str = Field(examples=["created", "lost"])
    interface: str = Field(description="Its own name; empty for a worker's queue and for lost.")
    detail: str = Field(description="More about it; for lost, how many events did not reach this reader.")


def interface(reading: InterfaceReading) -> Interface:
    """An interface as the API tells it."""
    return Interface(**_properties(reading))


def details(reading: InterfaceReading) -> InterfaceDetails:
    """An interface with its counters as the API tells it."""
    return InterfaceDetails(**_properties(reading), stats=_counters(reading))


def statistics(reading: Reading, time: float) -> Statistics:
    """Every counter as the API tells it."""
    return Statistics(
        time=time,
        interfaces=[
            InterfaceStatistics(device=each.device, name=each.name, netns=each.netns, stats=_counters(each))
            for each in reading.interfaces
        ],
        workers=[_worker(each) for each in reading.workers],
    )


def plan(actions: Iterable[Action]) -> Plan:
    """A plan as the API tells it."""
    actions = tuple(actions)
    return Plan(
        changes=any(each.verb != "adopt" for each in actions),
        actions=[
            PlanAction(
                verb=each.verb,
                kind=each.kind,
                name=each.name,
                note=each.note,
                details=[
                    PlanDetail(key=detail.key, old=detail.old, new=detail.new, note=detail.note)
                    for detail in each.details
                ],
            )
            for each in actions
        ],
    )


def happened(event: Event) -> Happened:
    """An event as the API tells it."""
    return Happened(time=event.time, what=event.what, interface=event.interface, detail=event.detail)


def _properties(reading: InterfaceReading) -> dict[str, Any]:
    return {name: getattr(reading, name) for name in Interface.model_fields}


def _counters(reading: InterfaceReading) -> Counters:
    return Counters(
        **{name: getattr(reading, name) for name in COUNTERS},
        oerrors=dict(zip(REASONS, reading.oerrors, strict=True)),
        ierrors=dict(zip(REASONS, reading.ierrors, strict=True)),
    )


def _worker(reading: WorkerReading) -> Worker:
    return Worker(**{name: getattr(reading, name) for name in Worker.model_fields})
