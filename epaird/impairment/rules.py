"""Keys of an impairment that cannot be combined, and combinations that may surprise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from epaird.impairment.compiling import line_parameters
from epaird.impairment.effective import BUFFER
from epaird.impairment.expected import bandwidth_delay_product
from epaird.impairment.losses import unattainable
from epaird.impairment.tables import LOSSES, NEEDS, Keys, active, is_off, merged_phase
from epaird.impairment.units import nanoseconds, octets, size

_NEEDS: Final[Mapping[str, str]] = {
    "jitter_correlation": "needs jitter: it correlates its values",
    "distribution": "needs jitter: it is its distribution",
    "reorder": "needs delay: a segment overtakes those that are delayed",
    "loss_correlation": "needs loss: it correlates the losses of neighbours",
    "loss_burst": "needs loss: it is the mean length of its runs",
    "limit": "needs rate or trace: without them no queue forms, delay never drops",
    "queue": "needs rate or trace: without them no queue forms",
}
"""Keys that are refused without what they need, and one line without the key."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A combination that cannot be."""

    place: tuple[str | int, ...]
    """The key that is reported: ``("loss_burst",)``, ``("schedule", 0, "for")``."""
    message: str
    """One line."""
    others: tuple[str, ...] = ()
    """The other keys that the combination consists of, or lacks."""


def faults(keys: Keys) -> Iterator[Fault]:
    """Yield every combination of a line's keys that cannot be, also in its schedule."""
    yield from _combinations(keys)
    for index, phase in enumerate(keys.get("schedule", ())):
        for fault in _of_phase(keys, phase):
            yield Fault(("schedule", index, *fault.place), fault.message, fault.others)


def exclusions(keys: Keys) -> Iterator[Fault]:
    """Yield the combinations in one table that cannot be whatever other tables have."""
    if active(keys, "rate") and active(keys, "trace"):
        yield Fault(("trace",), "cannot be combined with rate: a trace is a rate that changes", ("rate",))
    if "loss_correlation" in keys and "loss_burst" in keys:
        message = "cannot be combined with loss_correlation: each determines how long losses last"
        yield Fault(("loss_burst",), message, ("loss_correlation",))
    if isinstance(keys.get("loss"), Mapping):
        for key in ("loss_correlation", "loss_burst"):
            if key in keys:
                message = "cannot be combined with loss as a table: its r determines how long losses last"
                yield Fault((key,), message, ("loss",))


def schedule_faults(schedule: Iterable[Keys]) -> Iterator[Fault]:
    """Yield the times of a schedule that cannot be; the place begins with the number of the entry."""
    for index, phase in enumerate(schedule):
        for fault in _times(phase):
            yield Fault((index, *fault.place), fault.message, fault.others)


def notes(keys: Keys) -> Iterator[tuple[str, str]]:
    """Yield allowed combinations that may surprise: the key, and one line."""
    if active(keys, "jitter") and nanoseconds(keys["jitter"]) > nanoseconds(keys.get("delay", "0s")):
        delay = keys.get("delay", "none")
        yield (
            "jitter",
            f"{keys['jitter']} is more than the delay ({delay}): no delay is less than 0, the mean grows",
        )
    if active(keys, "rate", "trace") and not active(keys, "limit") and keys.get("queue") != "codel":
        key = "rate" if active(keys, "rate") else "trace"
        message = "without limit the queue is as long as buffer and the kernel's ring, and TCP fills both"
        yield key, f"{message}: round trips grow to seconds"
    parameters = line_parameters(keys)
    held, room = bandwidth_delay_product(parameters), octets(keys["buffer"]) if "buffer" in keys else BUFFER
    if held > room:
        message = f"delay times rate is {size(held)}, more than the buffer of {size(room)}"
        yield "delay", f"{message}: the rate is not reached"


def _combinations(keys: Keys) -> Iterator[Fault]:
    yield from exclusions(keys)
    for key, message in _NEEDS.items():
        needed = NEEDS[key]
        if key in keys and not is_off(keys[key]) and not active(keys, *needed):
            yield Fault((key,), message, needed)
    if keys.get("ecn") and keys.get("queue") != "codel":
        yield Fault(("ecn",), 'true needs queue = "codel", which marks instead of dropping', ("queue",))
    if not any(True for _ in exclusions(keys)) and (found := unattainable(keys)) is not None:
        key, message = found
        yield Fault((key,), message, tuple(each for each in LOSSES if each != key))


def _of_phase(keys: Keys, phase: Keys) -> Iterator[Fault]:
    yield from _times(phase)
    own = {key for key in phase if key not in ("at", "for", "every")}
    if not own:
        yield Fault((), "changes nothing, it needs a key such as loss or delay")
    if active(phase, "rate") and active(keys, "trace"):
        yield Fault(("rate",), "cannot be combined with trace: a trace is a rate that changes", ("trace",))
        return
    for fault in _combinations(merged_phase(keys, phase)):
        concerned = [key for key in (fault.place[0], *fault.others) if key in own]
        if concerned:
            place = fault.place if fault.place[0] in own else (concerned[0],)
            prefix = "" if fault.place == place else f"{fault.place[0]} "
            yield Fault(place, prefix + fault.message, fault.others)


def _times(phase: Mapping[str, Any]) -> Iterator[Fault]:
    if "every" not in phase:
        return
    if "for" not in phase:
        yield Fault(("every",), "needs for, the part of the time that it is in force", ("for",))
    elif nanoseconds(phase["for"]) > nanoseconds(phase["every"]):
        message = f'{phase["for"]} is longer than every = "{phase["every"]}", after which it begins again'
        yield Fault(("for",), message, ("every",))
