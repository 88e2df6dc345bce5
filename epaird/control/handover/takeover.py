"""Taking over the interfaces of a predecessor, while its workers forward them.

1. The devices are adopted from their descriptors. When a device no longer exists, its whole pair is dropped.
2. The cables are recorded as they were.
3. The workers receive the cables that they do not forward already (:mod:`epaird.control.handover.orphans`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from epaird.control.handover.ledgers import finish_migration
from epaird.control.handover.orphans import Orphans
from epaird.control.handover.predecessor import Leftovers
from epaird.control.interfaces.cables import Cable
from epaird.control.interfaces.ifnet import Clone, Ifnet
from epaird.control.interfaces.kind import AnyKind
from epaird.control.interfaces.lines import OutgoingLine
from epaird.control.interfaces.measuring import measured
from epaird.control.interfaces.registry import Registry
from epaird.control.interfaces.saved import SavedClone, SavedDevice, SavedLine
from epaird.control.machine.host import Host
from epaird.control.workers.readers import Readers
from epaird.control.workers.worker import Worker
from epaird.ipc.ledger import Table
from epaird.ipc.slots import Slots
from epaird.kernel import tun
from epaird.kernel.errors import KernelError
from epaird.kernel.statistics import LinkStatistics
from epaird.kernel.tun import Tap

log = logging.getLogger(__name__)


class Takeover:
    """Takes over what a predecessor has left."""

    def __init__(
        self,
        leftovers: Leftovers,
        host: Host,
        table: Table,
        slots: Slots,
        workers: Sequence[Worker],
        registry: Registry,
        readers: Readers | None = None,
    ) -> None:
        """``readers`` are those of all queues."""
        self._readers = readers
        self._leftovers = leftovers
        self._host = host
        self._table = table
        self._slots = slots
        self._workers = workers
        self._registry = registry
        self._saved: dict[str, SavedDevice] = {}
        """Saved devices that were adopted, by name."""
        self._dropped: list[SavedDevice] = []
        """Saved devices that were not adopted; their slots are released already."""
        self._dropped_lines: set[int] = set()
        """Slots of lines that were not adopted; they are released already."""
        self._cables: list[Cable[Any]] = []

    async def take_over(self) -> None:
        """Take over everything. Workers that have no process afterwards are to be started.

        Raises WorkerLost when a worker that is needed cannot be started."""
        saved = self._leftovers.state
        if saved is None:
            return
        for kind in self._registry.kinds:
            for clone in saved.of_kind(kind.cloner.name):
                self._adopt(kind, clone)
        for kind in self._registry.kinds:
            self._adopt_cables(kind)
        await self._take_workers()
        slots = {slot for device in saved.devices for slot in device.slots}
        finish_migration(self._table, slots)
        for adopted in tuple(self._registry):
            self._registry.track(adopted)
        self._registry.balance()
        self._leftovers.close()
        self._release_slots()
        log.info(
            "taken over from a daemon that ended: %d interfaces, %d of %d workers",
            len(self._saved), len(self._leftovers.orphans), len(saved.workers),
        )  # fmt: skip

    def _adopt(self, kind: AnyKind, saved: SavedClone) -> None:
        taps = [self._tap(device) for device in saved.devices]
        present = [tap for tap in taps if tap is not None]
        if len(present) < len(taps):
            self._drop(saved, present)
            return
        clone = kind.adopt(saved, present)
        for device, line in saved.lines.items():
            self._adopt_line(clone, device, line)
        self._saved |= {device.name: device for device in saved.devices}

    def _adopt_line(self, clone: Clone, device: str, saved: SavedLine) -> None:
        half = next((each.plug for each in clone.ifnets if each.device == device), None)
        if half is not None:
            fds = self._leftovers.lines.pop(saved.slot, ())
            half.outgoing = OutgoingLine.adopt(
                device, self._table, saved.slot, saved.spec, fds, draining=saved.draining
            )
            half.outgoing.seed, half.outgoing.trace = saved.seed, saved.trace

    def _tap(self, device: SavedDevice) -> Tap | None:
        fds = [self._leftovers.fds[slot] for slot in device.slots if slot in self._leftovers.fds]
        if len(fds) != len(device.slots):
            return None
        try:
            tap = tun.adopt(device.name, device.tap_index, tuple(fds), device.offloads, device.missing)
        except KernelError:
            return None
        for slot in device.slots:
            del self._leftovers.fds[slot]
        return tap

    def _drop(self, saved: SavedClone, taps: Sequence[Tap]) -> None:
        """Close the devices that are left of a clone of which one no longer exists."""
        log.warning("%s: its device is gone: not taken over", saved.name)
        for tap in taps:
            tap.close()
        self._dropped += saved.devices
        for device in saved.devices:
            for slot in device.slots:
                if (fd := self._leftovers.fds.pop(slot, None)) is not None:
                    os.close(fd)
                self._slots.release(slot)
        for line in saved.lines.values():
            for fd in self._leftovers.lines.pop(line.slot, ()):
                os.close(fd)
            self._slots.release(line.slot)
            self._dropped_lines.add(line.slot)

    def _adopt_cables(self, kind: AnyKind) -> None:
        """Record the cables as they were, without a request to a worker."""
        for ifnet in sorted(kind.ifnets, key=lambda each: str(each.device)):
            if ifnet.cable is None:
                self._adopt_cable(kind.cable_of(ifnet))

    def _adopt_cable(self, cable: Cable[Any]) -> None:
        bases: dict[tuple[int, Ifnet], int] = {}
        for end in cable.ends:
            bases |= {(queue, end): base for queue, base in enumerate(self._saved[end.device].bases)}
        cable.adopt(bases)
        self._cables.append(cable)

    async def _take_workers(self) -> None:
        """Have the cables forwarded, as far as possible by the orphans that forward them already."""
        saved = self._leftovers.state.workers if self._leftovers.state is not None else ()
        restarts = {each.number: each.restarts for each in saved}
        orphans = Orphans(self._leftovers.orphans, self._workers, self._table, self._cables, self._readers)
        for worker in self._workers:
            worker.restarts = restarts.get(worker.number, 0)
            if worker.number in restarts and worker.number not in orphans.numbers:
                worker.restarts += 1
        await orphans.hand_over(self._measured)
        await orphans.end()

    def _measured(self, ends: Iterable[Ifnet]) -> Mapping[Ifnet, LinkStatistics]:
        try:
            return measured(self._host, ends)
        except KernelError as error:
            log.warning("the losses of workers that died are known in part only: %s", error)
            return {}

    def _release_slots(self) -> None:
        """Release the slots of workers that are gone: of surplus orphans, and of half-done renewals."""
        used = {worker.slot for worker in self._workers}
        used |= {slot for ifnet in self._registry.ifnets for slot in ifnet.slots}
        used |= {ifnet.line.slot for ifnet in self._registry.ifnets if ifnet.line is not None}
        dropped = {slot for device in self._dropped for slot in device.slots} | self._dropped_lines
        for slot in sorted(self._leftovers.slots - used - dropped):
            self._slots.release(slot)
