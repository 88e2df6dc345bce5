"""Taking over from a predecessor: its interfaces are ours from now on, while its workers forward them.

In order: the devices, from their descriptors; what is plugged into what; the workers, each with what it
forwards already.  What a worker forwards and nobody knows of is let go, what nobody forwards is accounted
for (its worker has died) and given to a worker.  A device that is gone takes its pair along.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from typing import Final

from epaird.control.host import Host
from epaird.control.interfaces.ifnet import Half, Ifnet, Loopback, Pair
from epaird.control.interfaces.registry import Interfaces
from epaird.control.interfaces.wires import Wire
from epaird.control.succession.predecessor import Remains, Survivor
from epaird.control.succession.state import SavedDevice, SavedLoopback, SavedPair
from epaird.control.workforce.links import Attachment, Link, WorkerLost, WorkerRefused
from epaird.control.workforce.processes import Adopted, Launched
from epaird.control.workforce.workers import Worker
from epaird.kernel import tun
from epaird.kernel.errors import KernelError
from epaird.kernel.tun import Tap
from epaird.ledger import Slots, Table
from epaird.messages import Attached

log = logging.getLogger(__name__)

PATIENCE_S: Final = 1.0
"""How long a cable that nobody knows of may take to be let go."""


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

    async def take_over(self) -> None:
        """Everything that is left.  Workers that are still without a process are to be started then."""
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
        ifnets: tuple[Half | Loopback, ...] = (*self._halves.values(), *loopbacks)
        for ifnet in ifnets:
            self._interfaces.sight(ifnet)
        self._remains.close()
        survived = sum(worker.forwards for worker in self._workers)
        log.info(
            "taken over from a daemon that ended: %d interfaces, %d of %d workers",
            len(ifnets), survived, len(saved.workers),
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
                        carrier_on=half.carrier_on,
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

    async def _take_workers(self) -> None:
        """Have each survivor be a worker, and those that are too many give away what they have."""
        saved = self._remains.state.workers if self._remains.state is not None else ()
        restarts = {each.number: each.restarts for each in saved}
        missing: list[tuple[Worker, str]] = []
        survivors = sorted(self._remains.survivors, key=lambda each: len(each.attached), reverse=True)
        for worker in self._workers:
            worker.restarts = restarts.get(worker.number, 0)
            mine = next((each for each in survivors if each.about.worker == worker.number), None)
            if mine is None:
                continue
            survivors.remove(mine)
            with contextlib.suppress(ProcessLookupError):
                worker.adopt(_launched(mine), mine.path)
                await worker.bring_up_to_date()
                missing += [(worker, cable) for cable in await self._compare(worker, mine)]
        for each in survivors:
            with contextlib.suppress(ProcessLookupError):
                await _dismiss(each)
        for worker in self._workers:
            if not worker.forwards and worker.number in restarts:
                worker.restarts += 1
                await self._interfaces.worker_lost(worker)
        for worker, cable in missing:
            try:
                await worker.attach(worker.attachments[cable])
            except (WorkerLost, WorkerRefused) as error:
                log.error("%s is not forwarded any more: %s", cable, error)

    async def _compare(self, worker: Worker, survivor: Survivor) -> list[str]:
        """Have a worker let go of what it should not have; what it has not."""
        missing = []
        for cable, wanted in worker.attachments.items():
            have = survivor.attached.pop(cable, None)
            if have is None or not _same(have, wanted):
                missing.append(cable)
                if have is not None:
                    survivor.attached[cable] = have
            elif have.mtus != wanted.mtus:
                await worker.resize(cable, wanted.mtus)
        for cable in survivor.attached:
            await worker.drop(cable, PATIENCE_S)
        return missing


def _same(have: Attached, wanted: Attachment) -> bool:
    return (have.names, have.slots, have.kind, have.coalesce) == (
        wanted.names,
        wanted.slots,
        wanted.kind,
        wanted.coalesce,
    )


def _launched(survivor: Survivor) -> Launched:
    """Raises ProcessLookupError when it has died since."""
    return Launched(Adopted(survivor.about.pid), survivor.connection)


async def _dismiss(survivor: Survivor) -> None:
    """End a worker that nobody needs, once what it has is another's."""
    link = Link("a worker too many", _launched(survivor), lambda _: None, lambda _: None)
    link.adopted(survivor.path)
    for cable in survivor.attached:
        with contextlib.suppress(WorkerLost, WorkerRefused):
            await link.detach(cable, PATIENCE_S)
    link.tell_to_end()
    await link.gone(PATIENCE_S)
