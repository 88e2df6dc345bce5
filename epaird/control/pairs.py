"""Pairs: made, watched, measured, and taken down.

A pair is two TAP devices, its halves, joined by one cable for each queue.  The descriptors stay here
and copies go to the workers, so a worker's death destroys no device.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from epaird import ledger, mac, names
from epaird.control.host import Host, Place
from epaird.control.readings import InterfaceReading
from epaird.control.tasks import spawn
from epaird.control.workers import Attachment, Worker
from epaird.kernel.errors import KernelError
from epaird.kernel.link import LinkSettings, Route
from epaird.kernel.statistics import LinkStatistics
from epaird.kernel.tun import Tap
from epaird.kernel.watch import Kind, LinkEvent
from epaird.ledger import Slots, Table
from epaird.settings import HalfSettings, PairSettings

log = logging.getLogger(__name__)

PATIENCE_S: Final = 1.0
"""How long a pair that is taken down waits for a receiver that takes nothing."""


@dataclass(slots=True, eq=False)
class Half:
    """One half of a pair that exists."""

    device: str
    """Its own name, which it keeps for life: ``epair0a``."""
    side: names.Half
    """``a`` or ``b``."""
    settings: HalfSettings
    mac: str
    """The hardware address it is given."""
    tap: Tap
    slots: tuple[int, ...]
    """Its slots of the ledger, one for each queue."""
    place: Place
    """Where it was seen last."""
    mtu: int
    """Bytes, as last seen."""


@dataclass(slots=True, eq=False)
class Pair:
    """A pair that exists."""

    name: str
    settings: PairSettings
    halves: tuple[Half, Half]
    workers: tuple[Worker, ...]
    """Which worker forwards each queue."""
    going: bool = field(default=False)
    """It is being taken down."""

    @property
    def cables(self) -> tuple[str, ...]:
        """The names of its cables, one for each queue."""
        queues = self.settings.queues
        return (self.name,) if queues == 1 else tuple(f"{self.name}.{queue}" for queue in range(queues))

    @property
    def mtus(self) -> tuple[int, int]:
        return self.halves[0].mtu, self.halves[1].mtu


class Pairs:
    """All pairs of the daemon, by name."""

    def __init__(self, host: Host, table: Table, slots: Slots, workers: Sequence[Worker]) -> None:
        self._host = host
        self._table = table
        self._slots = slots
        self._workers = workers
        self._pairs: dict[str, Pair] = {}
        self._made = 0
        """Pairs ever made: the index from which a MAC address is derived is never used again."""

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._pairs.values())

    def __len__(self) -> int:
        return len(self._pairs)

    async def create(self, name: str, settings: PairSettings) -> Pair:
        """Make a pair: its devices, forwarded, in their namespaces, configured.

        Raises KernelError when something cannot be had; then nothing is left of it."""
        self._made += 1
        index = self._made
        async with contextlib.AsyncExitStack() as undo:
            taps = [await self._open(undo, names.half_name(name, side), settings) for side in names.HALVES]
            halves = tuple(
                self._half(undo, side, settings.half(side), tap, index)
                for side, tap in zip(names.HALVES, taps, strict=True)
            )
            first = taps[0].index
            workers = tuple(
                self._workers[(first + queue) % len(self._workers)] for queue in range(settings.queues)
            )
            pair = Pair(name, settings, (halves[0], halves[1]), workers)
            undo.push_async_callback(self._detach, pair)
            await self._attach(pair)
            for half in pair.halves:
                half.place = await self._host.place(
                    half.tap, half.settings.name or half.device, half.settings.netns
                )
            for half in pair.halves:
                await self._host.configure(half.tap, half.place, _link_settings(half))
            undo.pop_all()
        self._pairs[name] = pair
        log.debug("%s: made, forwarded by worker %s", name, _numbers(pair))
        return pair

    async def destroy(self, pair: Pair) -> None:
        """Take a pair down: stop reading, let its frames in flight arrive, destroy both devices."""
        if not pair.going:
            pair.going = True
            await self._detach(pair)
            await self._host.close_taps(half.tap for half in pair.halves)
            for half in pair.halves:
                for slot in half.slots:
                    self._slots.release(slot)
            del self._pairs[pair.name]

    async def destroy_all(self) -> None:
        """Take every pair down."""
        await asyncio.gather(*(self.destroy(pair) for pair in tuple(self)))

    def happened(self, event: LinkEvent) -> None:
        """Something happened to a device, ours perhaps."""
        if event.kind is Kind.OVERRUN:
            log.warning("the kernel has dropped link events: looking at every interface afresh")
        for pair in tuple(self):
            for half in pair.halves:
                place = half.place
                if event.kind is Kind.OVERRUN or (
                    event.nsid == place.nsid and event.index in (place.index, 0)
                ):
                    self._look(pair, half, event)

    def gone(self, cable: str, device: str) -> None:
        """A worker has found a device vanished."""
        pair = self._pairs.get(cable.partition(".")[0])
        if pair is not None:
            self._lose(pair, device)

    async def worker_lost(self, worker: Worker) -> None:
        """A worker has died: settle its account, while nobody reads its cables.

        With several queues the kernel's counters are those of all of them, and other workers go on;
        then only what waited in the queue is known to be lost."""
        for pair in self:
            if worker in pair.workers and pair.settings.queues == 1:
                statistics = [self._statistics(half) for half in pair.halves]
                for sender, receiver in ((0, 1), (1, 0)):
                    if (out := statistics[sender]) and (into := statistics[receiver]):
                        ledger.settle(
                            self._table.slot(pair.halves[sender].slots[0]),
                            self._table.slot(pair.halves[receiver].slots[0]),
                            read=out.tx_packets,
                            written=into.rx_packets,
                        )

    def readings(self) -> tuple[InterfaceReading, ...]:
        """Every interface now; one that vanishes meanwhile is left out."""
        pairs = tuple(self)
        seen = {
            nsid: self._host.statistics(nsid)
            for nsid in {half.place.nsid for pair in pairs for half in pair.halves}
        }
        found = []
        for pair in pairs:
            for half in pair.halves:
                statistics = seen[half.place.nsid].get(half.place.index)
                if statistics is not None:
                    found.append(self._reading(pair, half, statistics))
        return tuple(found)

    async def _open(self, undo: contextlib.AsyncExitStack, device: str, settings: PairSettings) -> Tap:
        tap = await self._host.open_tap(device, queues=settings.queues, offload=settings.offload)
        undo.push_async_callback(self._host.close_taps, (tap,))
        if settings.offload and tap.missing:
            log.warning("%s: this kernel has no %s; going on without", device, " and no ".join(tap.missing))
        return tap

    def _half(
        self, undo: contextlib.AsyncExitStack, side: names.Half, settings: HalfSettings, tap: Tap, index: int
    ) -> Half:
        if settings.sndbuf is not None:
            self._host.set_sndbuf(tap, settings.sndbuf)
        slots = tuple(self._slots.take() for _ in tap.fds)
        for slot in slots:
            undo.callback(self._slots.release, slot)
        return Half(
            device=tap.name,
            side=side,
            settings=settings,
            mac=settings.mac or mac.derive(index, mac.host_id(), side),
            tap=tap,
            slots=slots,
            place=self._host.at_home(tap),
            mtu=settings.mtu,
        )

    async def _attach(self, pair: Pair) -> None:
        a, b = pair.halves
        for queue, (cable, worker) in enumerate(zip(pair.cables, pair.workers, strict=True)):
            await worker.attach(
                Attachment(
                    cable,
                    names=(a.device, b.device),
                    fds=(a.tap.fds[queue], b.tap.fds[queue]),
                    slots=(a.slots[queue], b.slots[queue]),
                    mtus=pair.mtus,
                    coalesce=pair.settings.coalesce and all(half.tap.takes_datagrams for half in pair.halves),
                )
            )

    async def _detach(self, pair: Pair) -> None:
        await asyncio.gather(
            *(
                worker.detach(cable, PATIENCE_S)
                for cable, worker in zip(pair.cables, pair.workers, strict=True)
            )
        )

    def _look(self, pair: Pair, half: Half, event: LinkEvent) -> None:
        """See what has become of a half, and say it once."""
        if pair.going:
            return
        if event.kind is Kind.NAMESPACE_GONE:
            self._lose(pair, half.device)
            return
        before = half.place
        try:
            half.place = self._host.find(half.tap, before)
        except KernelError as error:
            if error.errno != errno.EBADFD:
                log.warning("%s: %s", half.device, error)
            else:
                self._lose(pair, half.device)
            return
        if half.place.identity != before.identity:
            log.warning(
                "%s: moved from %s to %s, where it is down and without addresses until somebody sees to it",
                half.device, _where(before), _where(half.place),
            )  # fmt: skip
        elif half.place.name != before.name:
            log.warning("%s: renamed from %s to %s", half.device, before.name, half.place.name)
        if event.kind is Kind.NEW and event.mtu and event.mtu != half.mtu:
            half.mtu = event.mtu
            log.info("%s: mtu is %d now", half.device, event.mtu)
            for cable, worker in zip(pair.cables, pair.workers, strict=True):
                spawn(worker.resize(cable, pair.mtus), f"resizing {cable}")

    def _lose(self, pair: Pair, device: str) -> None:
        if not pair.going:
            log.warning(
                "%s: the device is gone (it was deleted, or its namespace was): %s is taken down whole",
                device, pair.name,
            )  # fmt: skip
            spawn(self.destroy(pair), f"taking {pair.name} down")

    def _statistics(self, half: Half) -> LinkStatistics | None:
        return self._host.statistics(half.place.nsid).get(half.place.index)

    def _reading(self, pair: Pair, half: Half, statistics: LinkStatistics) -> InterfaceReading:
        words = [sum(each) for each in zip(*(self._table.slot(slot) for slot in half.slots), strict=True)]
        reasons = len(ledger.REASONS)
        return InterfaceReading(
            device=half.device,
            pair=pair.name,
            half=half.side,
            name=statistics.name,
            netns=half.place.netns,
            mac=statistics.mac,
            worker=_numbers(pair),
            up=statistics.up,
            carrier=statistics.lower_up,
            mtu=statistics.mtu,
            refs=1 + words[ledger.IN_FLIGHT] + words[ledger.LISTED],
            oactive=bool(words[ledger.OACTIVE]),
            opackets=words[ledger.OPACKETS],
            obytes=words[ledger.OBYTES],
            omcasts=words[ledger.OMCASTS],
            oqdrops=statistics.tx_dropped,
            ipackets=words[ledger.IPACKETS],
            ibytes=words[ledger.IBYTES],
            imcasts=words[ledger.IMCASTS],
            oerrors=tuple(words[ledger.OERRORS : ledger.OERRORS + reasons]),
            ierrors=tuple(words[ledger.IERRORS : ledger.IERRORS + reasons]),
        )


def _link_settings(half: Half) -> LinkSettings:
    settings = half.settings
    return LinkSettings(
        mtu=settings.mtu,
        txqueuelen=settings.txqueuelen,
        mac=half.mac,
        up=settings.up,
        addresses=tuple(str(address) for address in settings.addresses),
        routes=tuple(Route(str(route.to), str(route.via)) for route in settings.routes),
    )


def _numbers(pair: Pair) -> str:
    return ",".join(str(number) for number in sorted({worker.number for worker in pair.workers}))


def _where(place: Place) -> str:
    return f"namespace {place.netns}" if place.netns else "the daemon's own namespace"
