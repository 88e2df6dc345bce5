"""Whether a state that was read can be that of a daemon.

The models check each value by its type. Here are the rules between values, and the ranges of the kernel and
the ledger. A state that breaks one comes from a damaged file: to take over by it could give two devices one
slot of the ledger, or plug a half into two others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from epaird.control.handover.ledgers import SLOTS
from epaird.control.handover.state import State
from epaird.control.interfaces.saved import SavedClone, SavedDevice, SavedHalf, SavedPair
from epaird.names import mac
from epaird.names.cloners import EPAIR, LO, SIDES
from epaird.names.grammar import quoted

_NUMBERS: Final = range(1 << 31)
"""Interface indices, namespace ids, process ids and numbers of workers: C ints that are not negative."""
_IDENTITIES: Final = range(1 << 64)
"""Numbers of devices and inodes."""
_MTUS: Final = range(68, 1 << 16)
"""Bytes."""
_BASES: Final = range(-(1 << 63), 1 << 63)
"""Differences of counters."""


def fault_of(state: State) -> str:
    """Return what is wrong with a state, in one line; empty when nothing is."""
    return next(_faults(state), "")


def _faults(state: State) -> Iterator[str]:
    yield from _outside("home", state.home, _IDENTITIES)
    yield from _outside("macs_made", (state.macs_made,), _NUMBERS)
    for worker in state.workers:
        yield from _outside("a worker", (worker.number, worker.pid, worker.restarts), _NUMBERS)
    for clone in state.clones:
        yield from _faults_of_clone(clone)
    for device in state.devices:
        yield from _faults_of_device(device)
    yield from _repeated("worker", (worker.number for worker in state.workers))
    yield from _repeated("interface", (quoted(clone.name) for clone in state.clones))
    slots = [worker.slot for worker in state.workers]
    slots += [slot for device in state.devices for slot in device.slots]
    lines = [line for clone in state.clones for line in clone.lines.values()]
    slots += [line.slot for line in lines]
    for line in lines:
        yield from line.spec.faults() if line.spec is not None else ()
    yield from _outside("a slot", slots, range(SLOTS))
    yield from _repeated("slot", slots)
    yield from _faults_of_peers(state)


def _outside(subject: str, numbers: Iterable[int], allowed: Collection[int]) -> Iterator[str]:
    if any(number not in allowed for number in numbers):
        yield f"{subject} has a number that is out of range"


def _repeated(subject: str, values: Iterable[object]) -> Iterator[str]:
    for value, count in Counter(values).items():
        if count > 1:
            yield f"{subject} {value} is there twice"


def _faults_of_clone(clone: SavedClone) -> Iterator[str]:
    cloner, queues, workers = LO, 1, (clone.worker,) if not isinstance(clone, SavedPair) else clone.workers
    devices = [clone.name]
    if isinstance(clone, SavedPair):
        cloner, queues = EPAIR, clone.settings.queues
        devices = [clone.name + side for side in SIDES]
        if tuple(half.side for half in clone.halves) != SIDES:
            yield f"{quoted(clone.name)}: its halves are not a and b"
        for half in clone.halves:
            yield from _faults_of_mac(half)
    try:
        cloner.unit_of(clone.name)
    except ValueError as error:
        yield str(error)
    if [device.name for device in clone.devices] != devices:
        yield f"{quoted(clone.name)}: its devices have other names"
    if any(len(device.slots) != queues for device in clone.devices) or len(workers) != queues:
        yield f"{quoted(clone.name)}: it has {queues} queues, and another number of slots or workers"
    yield from _outside(f"{quoted(clone.name)}: a worker", workers, _NUMBERS)


def _faults_of_mac(half: SavedHalf) -> Iterator[str]:
    try:
        mac.parse(half.mac)
    except ValueError as error:
        yield f"{quoted(half.device.name)}: {error}"


def _faults_of_device(device: SavedDevice) -> Iterator[str]:
    place = device.place
    name = quoted(device.name)
    nsids = () if place.nsid is None else (place.nsid,)
    yield from _outside(name, (device.tap_index, device.offloads, place.index, *nsids), _NUMBERS)
    yield from _outside(f"{name}: its namespace", (*place.identity, *(device.placed or ())), _IDENTITIES)
    yield from _outside(f"{name}: its MTU", (device.mtu,), _MTUS)
    yield from _outside(f"{name}: a base", device.bases, _BASES)
    if len(device.bases) not in (0, len(device.slots)):
        yield f"{name}: its bases are not those of its queues"
    for each in (place.name, place.netns):
        if "\0" in each:
            yield f"{name}: {quoted(each)} has a NUL in it"


def _faults_of_peers(state: State) -> Iterator[str]:
    """Yield halves that are patched to one that is patched elsewhere; a peer that is not there is none."""
    halves = {half.device.name: half for pair in state.pairs for half in pair.halves}
    for name, half in halves.items():
        peer = halves.get(half.peer or "")
        if peer is None:
            continue
        if peer is half or peer.peer != name:
            yield f"{quoted(name)} is patched to {quoted(peer.device.name)}, which is not patched to it"
        elif len(peer.device.slots) != len(half.device.slots):
            yield f"{quoted(name)} is patched to {quoted(peer.device.name)}, which has other queues"
