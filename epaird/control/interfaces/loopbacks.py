"""Loopbacks: made, and taken down.

A loopback is a TUN device whose packets its worker delivers to it again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

from epaird.config.settings import LoopbackSettings
from epaird.control.interfaces.events import Bus
from epaird.control.interfaces.ifnet import Ifnet, Loopback, Origin, link_settings, reading
from epaird.control.interfaces.sightings import Sightings, measured, where
from epaird.control.interfaces.unregister import Unregistering
from epaird.control.interfaces.wires import Wire, settle
from epaird.control.machine.host import Host, Place
from epaird.control.readings import InterfaceReading
from epaird.control.tasks import spawn, together
from epaird.control.workers.worker import Worker
from epaird.ipc.ledger import Slots, Table
from epaird.kernel.errors import KernelError
from epaird.kernel.policy import TABLES
from epaird.names.cloners import LO

log = logging.getLogger(__name__)


class Loopbacks:
    """All loopbacks of the daemon, by name."""

    def __init__(
        self,
        host: Host,
        table: Table,
        slots: Slots,
        workers: Sequence[Worker],
        *,
        bus: Bus,
        sightings: Sightings,
    ) -> None:
        self._host = host
        self._table = table
        self._slots = slots
        self._workers = workers
        self._bus = bus
        self._sightings = sightings
        self.unregistering = Unregistering(host, table, slots, bus)
        self._loopbacks: dict[str, Loopback] = {}

    def __iter__(self) -> Iterator[Loopback]:
        return iter(self._loopbacks.values())

    def __len__(self) -> int:
        return len(self._loopbacks)

    async def create(
        self, name: str, settings: LoopbackSettings, origin: Origin = "configuration"
    ) -> Loopback:
        """Make a loopback: its device, forwarded, in its namespace, configured.

        Raises KernelError, WorkerLost or WorkerRefused when something cannot be had; then nothing is left
        of it."""
        async with contextlib.AsyncExitStack() as undo:
            tap = await self._host.open_tun(name)
            undo.push_async_callback(self._host.close_taps, (tap,))
            if tap.missing:
                log.warning("%s: this kernel has no %s; going on without", name, " and no ".join(tap.missing))
            slot = self._slots.take()
            undo.callback(self._slots.release, slot)
            loopback = Loopback(
                device=name,
                tap=tap,
                slots=(slot,),
                place=self._host.at_home(tap),
                mtu=settings.mtu,
                settings=settings,
                worker=self._workers[tap.index % len(self._workers)],
                origin=origin,
            )
            wire = Wire(self._table, (loopback,), (loopback.worker,))
            undo.push_async_callback(wire.detach)
            await wire.attach()
            loopback.place = await self._host.place(tap, settings.name or name, settings.netns)
            await self._host.configure(tap, loopback.place, link_settings(settings))
            loopback.up = loopback.carrier = settings.up
            undo.push_async_callback(self.route_past, loopback, loopback.place)
            await self.route_through(loopback)
            undo.pop_all()
        self._loopbacks[name] = loopback
        self._bus.tell("created", name)
        self._sightings.add(loopback, self)
        return loopback

    def adopt(self, loopback: Loopback) -> None:
        """Take over a loopback that a predecessor has made."""
        self._loopbacks[loopback.device] = loopback

    def sight(self, loopback: Loopback) -> None:
        """Watch one that was taken over."""
        self._sightings.add(loopback, self)

    async def destroy(self, loopback: Loopback) -> None:
        """Take a loopback down; returns when it is gone, also when somebody else is at it already."""
        if loopback.going:
            await loopback.gone.wait()
        else:
            self._begin_to_go(loopback)
            await self._take_down(loopback)

    async def destroy_all(self) -> None:
        """Take every loopback down."""
        await together(*(self.destroy(loopback) for loopback in tuple(self)))

    async def rewire(self, loopback: Loopback) -> None:
        """Have its worker do as its settings say now.  Raises WorkerLost or WorkerRefused."""
        before = loopback.wire
        if before is not None:
            await before.detach(keep=True)
        try:
            await Wire(self._table, (loopback,), (loopback.worker,)).attach()
        finally:
            if before is not None:
                await before.forget()

    async def route_through(self, loopback: Loopback) -> None:
        """Have packets to its own addresses pass it, where its settings say so.  Raises KernelError."""
        settings = loopback.settings
        if settings.policy_routing and settings.up:
            addresses = tuple(map(str, settings.addresses))
            await self._host.route_through(loopback.place, _table(loopback), addresses)

    async def route_past(self, loopback: Loopback, place: Place) -> None:
        """Remove what ``route_through`` has installed in a place."""
        if loopback.settings.policy_routing:
            try:
                await self._host.route_past(place, _table(loopback))
            except KernelError as error:
                # A namespace that is gone has taken its rules along.
                log.debug("%s: %s", loopback.device, error)

    def readings(self) -> tuple[InterfaceReading, ...]:
        """Every loopback now; one that vanishes meanwhile is left out.  Raises KernelError."""
        found = measured(self._host, self)
        return tuple(reading(each, found[each], self._table) for each in self if each in found)

    async def worker_lost(self, worker: Worker) -> None:
        """A worker has died: settle its account, while nobody reads its loopbacks."""
        settle(self._host, worker, [each for each in self if each.worker is worker])

    # What is told of a loopback.

    def lost(self, ifnet: Ifnet) -> None:
        """Its device is gone."""
        if isinstance(ifnet, Loopback) and not ifnet.going:
            self._begin_to_go(ifnet)
            log.warning("%s: the device is gone (it was deleted, or its namespace was)", ifnet.device)
            spawn(self._take_down(ifnet), f"taking {ifnet.device} down")

    def resized(self, ifnet: Ifnet) -> None:
        """Packets are measured by another MTU."""
        if ifnet.wire is not None:
            ifnet.wire.resize()

    def turned(self, ifnet: Ifnet) -> None:
        """The kernel keeps the rules of a device that is down, and drops its routes."""
        if isinstance(ifnet, Loopback) and ifnet.up and not ifnet.going:
            spawn(self._route_again(ifnet), f"routes of {ifnet.device}")

    def moved(self, ifnet: Ifnet, before: Place) -> None:
        """Its rules are of no use where it was."""
        if isinstance(ifnet, Loopback):
            spawn(self.route_past(ifnet, before), f"rules of {ifnet.device} in {where(before)}")

    async def _route_again(self, loopback: Loopback) -> None:
        try:
            await self.route_through(loopback)
        except KernelError as error:
            log.warning("%s: %s", loopback.device, error)

    def _begin_to_go(self, loopback: Loopback) -> None:
        loopback.going = True
        self._sightings.remove(loopback)

    async def _take_down(self, loopback: Loopback) -> None:
        async with contextlib.AsyncExitStack() as down:
            down.callback(loopback.gone.set)
            down.callback(self._bus.tell, "destroyed", loopback.device)
            down.callback(self._loopbacks.pop, loopback.device)

            async def move_references() -> None:
                await self.route_past(loopback, loopback.place)

            await self.unregistering.unregister((loopback,), move_references)


def _table(loopback: Loopback) -> int:
    """The routing table that is a loopback's own."""
    return TABLES[(LO.unit(loopback.device) or 0) % len(TABLES)]
