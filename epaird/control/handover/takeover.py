"""Taking over from a predecessor: its interfaces are ours from now on, while its workers forward them.

In order: the devices, from their descriptors; what is plugged into what; the workers, each with what it
forwards already (:mod:`epaird.control.handover.orphans`).  A device that is gone takes its pair along.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from epaird.control.handover.ledgers import finish_migration
from epaird.control.handover.orphans import Survivors
from epaird.control.handover.predecessor import Remains, devices
from epaird.control.handover.state import SavedDevice, SavedLoopback, SavedPair
from epaird.control.interfaces.ifnet import Half, Ifnet, Loopback, Pair
from epaird.control.interfaces.registry import Interfaces
from epaird.control.interfaces.sightings import measured
from epaird.control.interfaces.wires import Wire
from epaird.control.machine.host import Host
from epaird.control.workers.worker import Worker
from epaird.ipc.ledger import Slots, Table
from epaird.kernel import tun
from epaird.kernel.errors import KernelError
from epaird.kernel.tun import Tap

log = logging.getLogger(__name__)


class Takeover:
    """What is needed for it."""

    def __init__(
        self,
        remains: Remains,
        host: Host,
        table: Table,
        slots: Slots,
        workers: Sequence[Worker],
        interfaces: Interfaces,
    ) -> None:
        self._remains = remains
        self._host = host
        self._table = table
        self._slots = slots
        self._workers = workers
        self._interfaces = interfaces
        self._saved: dict[str, SavedDevice] = {}
        self._halves: dict[str, Half] = {}
        self._wires: list[Wire] = []
        self._survivors: Survivors | None = None

    async def take_over(self) -> None:
        """Everything that is left.  Workers that are still without a process are to be started then.

        Raises WorkerLost when a worker that is needed cannot be started."""
        saved = self._remains.state
        if saved is None:
            return
        pairs = [pair for found in saved.pairs if (pair := self._pair(found)) is not None]
        loopbacks = [each for alone in saved.loopbacks if (each := self._loopback(alone)) is not None]
        for one in saved.pairs:
            for half in one.halves:
                ours, peer = self._halves.get(half.device.name), self._halves.get(half.peer or "")
                if ours is not None:
                    ours.peer = peer
        for pair in pairs:
            self._interfaces.pairs.adopt(pair)
        for loopback in loopbacks:
            self._interfaces.loopbacks.adopt(loopback)
        self._plug(loopbacks)
        await self._take_workers()
        if self._survivors is not None:
            await self._survivors.end()
        slots = {slot for device in devices(saved) for slot in device.slots}
        finish_migration(self._table, slots)
        ifnets: tuple[Half | Loopback, ...] = (*self._halves.values(), *loopbacks)
        for ifnet in ifnets:
            self._interfaces.sight(ifnet)
        self._remains.close()
        log.info(
            "taken over from a daemon that ended: %d interfaces, %d of %d workers",
            len(ifnets), len(self._remains.survivors), len(saved.workers),
        )  # fmt: skip

    def _pair(self, saved: SavedPair) -> Pair | None:
        taps = [self._tap(half.device) for half in saved.halves]
        if None in taps:
            self._lose(saved.name, [half.device for half in saved.halves], taps)
            return None
        halves = []
        for half, tap in zip(saved.halves, taps, strict=True):
            if tap is not None:
                device = half.device
                self._saved[device.name] = device
                halves.append(
                    Half(
                        device=device.name,
                        side=half.side,
                        settings=saved.settings.half(half.side),
                        mac=half.mac,
                        tap=tap,
                        slots=device.slots,
                        place=device.place.place(),
                        mtu=device.mtu,
                        up=device.up,
                        carrier=device.carrier,
                        carrier_on=None,  # it may have been killed before it had that written down
                    )
                )
        a, b = halves
        workers = tuple(self._workers[number % len(self._workers)] for number in saved.workers)
        pair = Pair(saved.name, saved.settings, (a, b), workers, saved.origin, plugged=saved.plugged)
        for each in pair.halves:
            each.pair = pair
            self._halves[each.device] = each
        return pair

    def _loopback(self, saved: SavedLoopback) -> Loopback | None:
        device = saved.device
        tap = self._tap(device)
        if tap is None:
            self._lose(device.name, [device], [])
            return None
        self._saved[device.name] = device
        return Loopback(
            device=device.name,
            tap=tap,
            slots=device.slots,
            place=device.place.place(),
            mtu=device.mtu,
            up=device.up,
            carrier=device.carrier,
            settings=saved.settings,
            worker=self._workers[saved.worker % len(self._workers)],
            origin=saved.origin,
        )

    def _tap(self, device: SavedDevice) -> Tap | None:
        fds = [self._remains.fds[slot] for slot in device.slots if slot in self._remains.fds]
        if len(fds) != len(device.slots):
            return None
        try:
            tap = tun.adopt(device.name, device.tap_index, tuple(fds), device.offloads, device.missing)
        except KernelError:
            return None
        for slot in device.slots:
            del self._remains.fds[slot]
        return tap

    def _lose(self, name: str, devices: Sequence[SavedDevice], taps: Sequence[Tap | None]) -> None:
        log.warning("%s: its device is gone: not taken over", name)
        for tap in taps:
            if tap is not None:
                tap.close()
        for device in devices:
            for slot in device.slots:
                if (fd := self._remains.fds.pop(slot, None)) is not None:
                    os.close(fd)
                self._slots.release(slot)

    def _plug(self, loopbacks: Sequence[Loopback]) -> None:
        """Make the wires there were, without asking anybody for them."""
        for _, half in sorted(self._halves.items()):
            if half.wire is None:
                self._adopt(self._interfaces.pairs.patching.wire_of(half))
        for loopback in loopbacks:
            self._adopt(Wire(self._table, (loopback,), (loopback.worker,)))

    def _adopt(self, wire: Wire) -> None:
        bases: dict[tuple[int, Ifnet], int] = {}
        for end in wire.ends:
            bases |= {(queue, end): base for queue, base in enumerate(self._saved[end.device].bases)}
        wire.adopt(bases)
        self._wires.append(wire)

    async def _take_workers(self) -> None:
        """Have the wires forwarded, by those that do so already where that can be."""
        saved = self._remains.state.workers if self._remains.state is not None else ()
        restarts = {each.number: each.restarts for each in saved}
        survivors = self._survivors = Survivors(self._remains.survivors, self._workers, self._table)
        for worker in self._workers:
            worker.restarts = restarts.get(worker.number, 0)
            if worker.number in restarts and worker.number not in survivors.numbers:
                worker.restarts += 1
        ends = {end for wire in self._wires for end in wire.ends}
        try:
            found = measured(self._host, ends)
        except KernelError as error:
            log.warning("what workers have lost that died is known in part only: %s", error)
            found = {}
        await survivors.hand_over(self._wires, found)
