"""Pairs: made, and taken down.

A pair is two TAP devices, its halves, which are plugged into each other when they are made.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterator, Sequence

from epaird.config.settings import HalfSettings, PairSettings
from epaird.control.interfaces.events import Bus
from epaird.control.interfaces.ifnet import Half, Ifnet, Origin, Pair, link_settings, reading
from epaird.control.interfaces.patching import Patching
from epaird.control.interfaces.sightings import Sightings, measured
from epaird.control.interfaces.unregister import Unregistering
from epaird.control.interfaces.wires import PATIENCE_S, settle
from epaird.control.machine.host import Host, Place
from epaird.control.readings import InterfaceReading
from epaird.control.tasks import spawn, together
from epaird.control.workers.worker import Worker
from epaird.ipc.ledger import Slots, Table
from epaird.kernel.errors import KernelError
from epaird.kernel.tun import Tap
from epaird.kernel.watch import LinkEvent
from epaird.names import cloners as names
from epaird.names import mac
from epaird.names.macpool import MacPool, NoAddress

__all__ = ["PATIENCE_S", "Half", "Pair", "Pairs"]

log = logging.getLogger(__name__)


class Pairs:
    """All pairs of the daemon, by name."""

    def __init__(
        self,
        host: Host,
        table: Table,
        slots: Slots,
        workers: Sequence[Worker],
        *,
        bus: Bus | None = None,
        sightings: Sightings | None = None,
        macs: MacPool | None = None,
    ) -> None:
        self._host = host
        self._table = table
        self._slots = slots
        self._workers = workers
        self._bus = bus or Bus()
        self._sightings = sightings or Sightings(host, self._bus)
        self._macs = macs or MacPool(mac.host_id())
        self.unregistering = Unregistering(host, table, slots, self._bus)
        self._pairs: dict[str, Pair] = {}
        self.patching = Patching(host, table)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._pairs.values())

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def halves(self) -> tuple[Half, ...]:
        """Both halves of every pair."""
        return tuple(half for pair in self for half in pair.halves)

    async def create(self, name: str, settings: PairSettings, origin: Origin = "configuration") -> Pair:
        """Make a pair: its devices, forwarded, in their namespaces, configured.

        Raises KernelError, WorkerLost or WorkerRefused when something cannot be had; then nothing is left
        of it."""
        async with contextlib.AsyncExitStack() as undo:
            macs = self._addresses(undo, name, settings)
            taps = [await self._open(undo, name, side, settings) for side in names.SIDES]
            a, b = (
                self._half(undo, side, settings, tap, macs[side])
                for side, tap in zip(names.SIDES, taps, strict=True)
            )
            first = min((tap.index for tap in taps), key=self._load)
            workers = tuple(
                self._workers[(first + queue) % len(self._workers)] for queue in range(settings.queues)
            )
            pair = Pair(name, settings, (a, b), workers, origin)
            for half in pair.halves:
                half.pair = pair
            undo.push_async_callback(self._unplug, pair)
            await self.patching.plug_in(pair)
            for half in pair.halves:
                # Who comes up first would speak to a peer that is not up yet.
                self.patching.see_to_carrier(half)
            for half in pair.halves:
                half.place = await self._host.place(
                    half.tap, half.settings.name or half.device, half.settings.netns
                )
            for half in pair.halves:
                await self._host.configure(half.tap, half.place, link_settings(half.settings, half.mac))
                half.up = half.settings.up
            undo.pop_all()
        self._pairs[name] = pair
        log.debug("%s: made, forwarded by worker %s", name, a.wire.numbers if a.wire else "none")
        for half in pair.halves:
            self.patching.see_to_carrier(half)
            half.carrier = half.up and bool(half.carrier_on)
            self._bus.tell("created", half.device)
        # What happened to a half while the other was seen to has been told, and nobody listened.
        for half in pair.halves:
            self._sightings.add(half, self)
        return pair

    def changed(self) -> None:
        """Something about a pair is not as it was."""
        self._bus.changed()

    def adopt(self, pair: Pair) -> None:
        """Take over a pair that a predecessor has made."""
        self._pairs[pair.name] = pair
        for half in pair.halves:
            with contextlib.suppress(NoAddress):
                self._macs.claim(half.mac)

    def sight(self, half: Half) -> None:
        """Watch a half that was taken over."""
        self._sightings.add(half, self)

    async def destroy(self, pair: Pair) -> None:
        """Take a pair down: stop reading, let its frames in flight arrive, destroy both devices.

        Returns when it is gone, also when somebody else is at it already."""
        if pair.going:
            await pair.gone.wait()
        else:
            self._begin_to_go(pair)
            await self._take_down(pair)

    async def destroy_all(self) -> None:
        """Take every pair down."""
        await together(*(self.destroy(pair) for pair in tuple(self)))

    def happened(self, event: LinkEvent) -> None:
        """Something happened to a device, ours perhaps."""
        self._sightings.happened(event)

    def gone(self, cable: str, device: str) -> None:  # noqa: ARG002
        """A worker has found a device vanished."""
        self._sightings.gone(device)

    async def worker_lost(self, worker: Worker) -> None:
        """A worker has died: settle its account, while nobody reads its cables."""
        settle(self._host, worker, self.halves)

    def readings(self) -> tuple[InterfaceReading, ...]:
        """Every half now; one that vanishes meanwhile is left out.  Raises KernelError."""
        halves = self.halves
        found = measured(self._host, halves)
        return tuple(reading(half, found[half], self._table) for half in halves if half in found)

    def another_mac(self, half: Half, after: HalfSettings) -> str:
        """The hardware address that a half has with other settings.

        Raises KernelError, EEXIST when another interface has it."""
        try:
            if after.mac is not None and after.mac != "stable":
                if after.mac != half.mac:
                    self._macs.claim(after.mac)
                return after.mac
            both = self._macs.derive() if after.mac is None else self._macs.stable(half.pair.name)
        except NoAddress as error:
            raise KernelError(errno.EEXIST, f"{half.device}: {error}") from error
        for side, address in both.items():
            if side != half.side:
                self._macs.release(address)
        return both[half.side]

    def release_mac(self, half: Half, address: str) -> None:
        """An address that a half does not have, or has no more, is free."""
        if address != half.mac:
            self._macs.release(address)

    # What is told of a half.

    def lost(self, ifnet: Ifnet) -> None:
        """A half's device is gone: the pair goes with it."""
        if isinstance(ifnet, Half) and not ifnet.pair.going:
            pair = ifnet.pair
            self._begin_to_go(pair)
            log.warning(
                "%s: the device is gone (it was deleted, or its namespace was): %s is taken down whole",
                ifnet.device, pair.name,
            )  # fmt: skip
            spawn(self._take_down(pair), f"taking {pair.name} down")

    def resized(self, ifnet: Ifnet) -> None:
        """Frames are measured by another MTU."""
        if ifnet.wire is not None:
            ifnet.wire.resize()

    def turned(self, ifnet: Ifnet) -> None:
        """A half is up now, or down."""
        if isinstance(ifnet, Half):
            self.patching.turned(ifnet)

    def moved(self, ifnet: Ifnet, before: Place) -> None:
        """A half goes on forwarding wherever it is."""

    def _addresses(
        self, undo: contextlib.AsyncExitStack, name: str, settings: PairSettings
    ) -> dict[names.Side, str]:
        """The hardware addresses of a new pair's halves; they are nobody else's until it goes."""
        chosen = {side: settings.half(side).mac for side in names.SIDES}
        found: dict[str | None, dict[names.Side, str]] = {}
        macs: dict[names.Side, str] = {}
        try:
            if None in chosen.values():
                found[None] = self._macs.derive()
            if "stable" in chosen.values():
                found["stable"] = self._macs.stable(name)
            for side, address in chosen.items():
                if address is None or address == "stable":
                    macs[side] = found[address][side]
                else:
                    self._macs.claim(address)
                    macs[side] = address
                undo.callback(self._macs.release, macs[side])
        except NoAddress as error:
            raise KernelError(errno.EEXIST, f"{name}: {error}") from error
        finally:
            for of_both in found.values():
                for side, address in of_both.items():
                    if macs.get(side) != address:
                        self._macs.release(address)
        return macs

    def _load(self, index: int) -> int:
        """What the worker has to do to which an interface index leads.

        The indices of first halves differ by two, which would leave every other worker idle."""
        return len(self._workers[index % len(self._workers)].attachments)

    async def _open(
        self, undo: contextlib.AsyncExitStack, pair: str, side: names.Side, settings: PairSettings
    ) -> Tap:
        device, half = names.half_name(pair, side), settings.half(side)
        tap = await self._host.open_tap(
            device, queues=settings.queues, offload=settings.offload, name=half.name, netns=half.netns
        )
        undo.push_async_callback(self._host.close_taps, (tap,))
        if settings.offload and tap.missing:
            log.warning("%s: this kernel has no %s; going on without", device, " and no ".join(tap.missing))
        return tap

    def _half(
        self, undo: contextlib.AsyncExitStack, side: names.Side, pair: PairSettings, tap: Tap, address: str
    ) -> Half:
        settings = pair.half(side)
        if settings.sndbuf is not None:
            self._host.set_sndbuf(tap, settings.sndbuf)
        slots = []
        for _ in tap.fds:
            slots.append(slot := self._slots.take())
            undo.callback(self._slots.release, slot)
        return Half(
            device=tap.name,
            side=side,
            settings=settings,
            mac=address,
            tap=tap,
            slots=tuple(slots),
            place=self._host.at_home(tap),
            mtu=settings.mtu,
        )

    async def _unplug(self, pair: Pair) -> None:
        """Undo what plugged a pair in that cannot be made."""
        self._begin_to_go(pair)
        wires = {half.wire for half in pair.halves if half.wire is not None}
        await together(*(wire.detach() for wire in wires))

    def _begin_to_go(self, pair: Pair) -> None:
        pair.going = True
        for half in pair.halves:
            half.going = True
            self._sightings.remove(half)

    async def _take_down(self, pair: Pair) -> None:
        async with contextlib.AsyncExitStack() as down:
            down.callback(pair.gone.set)
            for half in pair.halves[::-1]:
                down.callback(self._bus.tell, "destroyed", half.device)
                down.callback(self._macs.release, half.mac)
            down.callback(self._pairs.pop, pair.name)
            those = await down.enter_async_context(self.patching.held(*pair.halves))
            others = those - set(pair.halves)
            if others:
                down.push_async_callback(self.patching.rewire, others)

            async def move_references() -> None:
                self.patching.abandon(pair)

            await self.unregistering.unregister(pair.halves, move_references)
