"""The life of an interface of any kind: created, tracked, measured and destroyed."""

from __future__ import annotations

import contextlib
import errno
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Generic

from epaird.control.interfaces.convergence import Goal, wanted
from epaird.control.interfaces.ifnet import Origin, link_settings, reading
from epaird.control.interfaces.kind import C, Environment, I, S
from epaird.control.interfaces.measuring import measured, settle
from epaird.control.interfaces.tracking import describe
from epaird.control.machine.host import Place
from epaird.control.readings import InterfaceReading
from epaird.control.tasks import spawn, together
from epaird.control.workers.worker import Worker
from epaird.ipc.slots import LedgerFull
from epaird.kernel.errors import KernelError
from epaird.kernel.tun import Tap

log = logging.getLogger(__name__)


class Lifecycle(ABC, Generic[C, I, S]):
    """All interfaces of one kind, by name."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._host = environment.host
        self._table = environment.table
        self._bus = environment.bus
        self._convergence = environment.convergence
        self._clones: dict[str, C] = {}

    def __iter__(self) -> Iterator[C]:
        return iter(self._clones.values())

    def __len__(self) -> int:
        return len(self._clones)

    @property
    def ifnets(self) -> tuple[I, ...]:
        """The interfaces of all clones."""
        return tuple(ifnet for clone in self for ifnet in self._ifnets_of(clone))

    def get(self, name: str) -> C | None:
        """Return the clone of a name."""
        return self._clones.get(name)

    async def create(self, name: str, settings: S, origin: Origin = "configuration") -> C:
        """Create a clone, see :class:`epaird.control.interfaces.kind.InterfaceKind`."""
        async with contextlib.AsyncExitStack() as undo:
            clone = await self._make(undo, name, settings, origin)
            undo.pop_all()
        self._clones[name] = clone
        ifnets = self._ifnets_of(clone)
        for ifnet in ifnets:
            ifnet.placed = ifnet.place.identity
        cable = ifnets[0].cable
        log.debug("%s: created, forwarded by worker %s", name, cable.numbers if cable is not None else "none")
        for ifnet in ifnets:
            self._created(ifnet)
            self._bus.publish("created", ifnet.device)
        # Events of the time before were not handled: track() checks for changes.
        self.track(clone)
        return clone

    def track(self, clone: C) -> None:
        """Track the interfaces of a clone, until one of them is found to be gone."""
        for ifnet in self._ifnets_of(clone):
            if not clone.destroying:
                self._environment.tracker.track(ifnet, self)

    async def destroy(self, clone: C) -> None:
        """Destroy a clone: stop reading, deliver the frames in flight, destroy its devices.

        Returns when it is gone, even if it was being destroyed already."""
        if clone.destroying:
            await clone.gone.wait()
        else:
            self._begin_destruction(clone)
            await self._take_down(clone)

    async def destroy_all(self) -> None:
        """Destroy every clone."""
        await together(*(self.destroy(clone) for clone in tuple(self)))

    async def relocate(self, ifnet: I) -> None:
        """Move an interface to where the name of its namespace leads now, and configure it there.

        Its descriptors, counters and peer stay. Raises KernelError before the device has moved, or when it
        could not be configured there."""
        tracker = self._environment.tracker
        await self._convergence.leave(ifnet, ifnet.place)
        async with self._convergence.lock:
            # Its own events would be taken for a move by others.
            tracker.untrack(ifnet)
            try:
                await self._place_again(ifnet)
            finally:
                if not ifnet.destroying:
                    tracker.track(ifnet, self)
                    tracker.examine([ifnet])
                    self._convergence.repair(ifnet)

    async def _place_again(self, ifnet: I) -> None:
        settings, before = ifnet.settings, ifnet.place
        ifnet.place = await self._host.relocate(
            ifnet.tap, before, settings.name or ifnet.device, settings.netns
        )
        ifnet.placed, ifnet.up, ifnet.mtu = ifnet.place.identity, False, settings.mtu
        self.up_changed(ifnet)
        self.mtu_changed(ifnet)
        self._bus.publish("moved", ifnet.device, f"{describe(before)} -> {describe(ifnet.place)}")
        try:
            await self._configure(ifnet)
        finally:
            self._environment.strays.record(ifnet, None)

    async def _configure(self, ifnet: I) -> None:
        """Configure an interface that is down and without addresses."""
        self._renew_address(ifnet)
        settings = ifnet.settings
        await self._host.configure(ifnet.tap, ifnet.place, link_settings(settings, ifnet.lladdr))
        ifnet.up = settings.up
        self.up_changed(ifnet)
        self._created(ifnet)
        for failure in await self._convergence.converge([Goal(ifnet, wanted(ifnet))]):
            raise failure

    def refresh(self) -> None:
        """Do nothing: only a carrier that follows a rule has to be updated."""

    def readings(self, ifnets: Sequence[I] | None = None) -> tuple[InterfaceReading, ...]:
        """Return the present state of these interfaces, or of all.

        An interface that vanishes during this is left out. Raises KernelError."""
        wanted = self.ifnets if ifnets is None else ifnets
        found = measured(self._host, wanted)
        return tuple(reading(each, found[each], self._table) for each in wanted if each in found)

    async def settle(self, worker: Worker) -> None:
        """Settle the account of a worker that has died. No other process may read its interfaces."""
        settle(self._host, worker, self.ifnets)
        self._balance()

    def balance(self) -> None:
        """Settle the accounts of cables with several queues, which a predecessor may not have settled."""
        for ifnet in self.ifnets:
            if ifnet.cable is not None and len(ifnet.cable.workers) > 1:
                ifnet.cable.unsettled = True
        self._balance()

    # Changes that the tracker reports.

    def lost(self, ifnet: I) -> None:
        """Destroy a clone whose device no longer exists."""
        clone = self._clone_of(ifnet)
        if clone.destroying:
            return
        self._begin_destruction(clone)
        whole = "" if len(clone.ifnets) == 1 else f": {clone.name} is taken down whole"
        log.warning("%s: the device is gone (it was deleted, or its namespace was)%s", ifnet.device, whole)
        spawn(self._take_down(clone), f"taking {clone.name} down")

    def mtu_changed(self, ifnet: I) -> None:
        """Have the workers apply the new MTU."""
        if ifnet.cable is not None:
            ifnet.cable.resize()

    @abstractmethod
    def up_changed(self, ifnet: I) -> None:
        """Handle a device that was set up or down."""

    @abstractmethod
    def moved(self, ifnet: I, before: Place) -> None:
        """Handle a device that was moved to another namespace."""

    # Differences between kinds.

    def _renew_address(self, ifnet: I) -> None:
        """Replace a derived hardware address that another device has where an interface was moved to.

        Raises KernelError."""

    @abstractmethod
    def _ifnets_of(self, clone: C) -> tuple[I, ...]:
        """Return the interfaces of a clone."""

    @abstractmethod
    def _clone_of(self, ifnet: I) -> C:
        """Return the clone of an interface."""

    @abstractmethod
    async def _make(self, undo: contextlib.AsyncExitStack, name: str, settings: S, origin: Origin) -> C:
        """Create the devices, attached, in their namespaces and configured; ``undo`` removes them."""

    def _created(self, ifnet: I) -> None:
        """Complete an interface of a new clone before it is announced."""

    def _forget(self, ifnet: I) -> None:
        """Free what an interface had reserved, after its clone was destroyed."""

    async def _detach_peers(self, down: contextlib.AsyncExitStack, clone: C) -> None:
        """Prevent changes of interfaces that refer to a clone, and have ``down`` connect them elsewhere."""

    def _detached(self, clone: C) -> None:
        """Complete the account of a clone that is being destroyed, once no worker has any of its cables."""

    @abstractmethod
    async def _move_references(self, clone: C) -> None:
        """Change everything else that refers to a clone, before its devices are destroyed."""

    # Steps.

    def _balance(self) -> None:
        for ifnet in self.ifnets:
            if ifnet.cable is not None and ifnet.cable.unsettled:
                self._environment.balancing.begin(ifnet.cable)

    def _take_slots(self, undo: contextlib.AsyncExitStack, tap: Tap) -> tuple[int, ...]:
        """Take a slot of the ledger for each queue of a device. Raises KernelError, ENOSPC."""
        slots, taken = self._environment.slots, []
        for _ in tap.fds:
            try:
                taken.append(slot := slots.take())
            except LedgerFull as error:
                raise KernelError(errno.ENOSPC, f"{tap.name}: {error}") from error
            undo.callback(slots.release, slot)
        return tuple(taken)

    def _begin_destruction(self, clone: C) -> None:
        clone.destroying = True
        for ifnet in self._ifnets_of(clone):
            ifnet.destroying = True
            self._environment.tracker.untrack(ifnet)

    async def _take_down(self, clone: C) -> None:
        ifnets = self._ifnets_of(clone)
        async with contextlib.AsyncExitStack() as down:
            down.callback(clone.gone.set)
            for ifnet in reversed(ifnets):
                down.callback(self._bus.publish, "destroyed", ifnet.device)
                down.callback(self._forget, ifnet)
            down.callback(self._clones.pop, clone.name)
            await self._detach_peers(down, clone)

            async def move_references() -> None:
                await self._move_references(clone)

            await self._environment.unregistering.unregister(
                ifnets, move_references, lambda: self._detached(clone)
            )
