"""Readings for tests of the front ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from epaird.control.readings import InterfaceReading, LineReading, ProcessReading, Reading, WorkerReading
from epaird.ipc.counters import INTERFACE, READING_WORDS, SLOT_WORDS
from epaird.ipc.impairment import LineParameters


def words(**counts: int | tuple[int, ...]) -> list[int]:
    """Return the words of an interface with these counts; a counter by reason has one for each."""
    found = [0] * READING_WORDS
    places = {counter.name: counter.word for counter in INTERFACE}
    for name, count in counts.items():
        numbers = count if isinstance(count, tuple) else (int(count),)
        found[places[name] : places[name] + len(numbers)] = numbers
    return found


def interface(device: str, **changes: Any) -> InterfaceReading:  # noqa: ANN401
    """Return an idle half of a pair; ``changes`` are fields of the reading, counts, or ``refs``."""
    names = {counter.name for counter in INTERFACE}
    counts = {name: changes.pop(name) for name in names & changes.keys()}
    if "refs" in changes:
        counts["in_flight"] = changes.pop("refs") - 1
    idle = InterfaceReading(
        device=device,
        kind="epair",
        pair=device[:-1],
        half=device[-1],
        peer=device[:-1] + {"a": "b"}.get(device[-1], "a"),
        origin="configuration",
        name="eth0",
        netns="red",
        mac="02:5d:11:22:33:0a",
        worker="0",
        up=True,
        carrier=True,
        mtu=1500,
        words=words(**counts),
        line=LineReading(device, list(range(SLOT_WORDS)), LineParameters(delay_ns=10**8, rate=10**7)),
    )
    return replace(idle, **changes)


def worker(number: int = 0, **changes: Any) -> WorkerReading:  # noqa: ANN401
    """Return an idle worker; ``changes`` are fields of the reading."""
    idle = WorkerReading(
        worker=str(number),
        queue_frames=0,
        queue_limit=2100,
        drain_list=0,
        oactive=False,
        restarts=0,
        cpu_seconds=0.0,
        alive=True,
    )
    return replace(idle, **changes)


def pair(**changes: Any) -> Reading:  # noqa: ANN401
    """Return ``epair0`` and its worker; ``changes`` are for the half a."""
    return Reading((interface("epair0a", **changes), interface("epair0b", netns="blue")), (worker(),))


def process(worker: str = "0", **changes: Any) -> ProcessReading:  # noqa: ANN401
    """Return an idle worker process with its whole sandbox; ``changes`` are fields of the reading."""
    idle = ProcessReading(
        worker=worker,
        state="running",
        pid=4711,
        version="0.4.0",
        uid=65534,
        no_new_privs=True,
        seccomp="filter",
        landlock=7,
        namespaces=("net", "mnt"),
        cables=3,
        queue_limit=2100,
        cpu_seconds=1.5,
        total_cpu_seconds=61.25,
        age_seconds=200.0,
    )
    return replace(idle, **changes)
