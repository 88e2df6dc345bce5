"""The registry of interfaces: by kind, by name, and by the name of their devices."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from epaird.config.settings import DeviceSettings, InterfaceSettings
from epaird.control.interfaces.convergence import NO_SETTINGS, Goal
from epaird.control.interfaces.events import EventBus
from epaird.control.interfaces.ifnet import Clone, Ifnet, Origin, Stray
from epaird.control.interfaces.inplace import InPlace
from epaird.control.interfaces.kind import AnyKind, Environment
from epaird.control.interfaces.loopbacks import Loopbacks
from epaird.control.interfaces.pairs import Pairs
from epaird.control.machine.host import Host
from epaird.control.readings import InterfaceReading, MissingReading, Reading
from epaird.control.tasks import together, whole
from epaird.control.workers.worker import Worker
from epaird.ipc.ledger import Table
from epaird.ipc.messages import Drained, Overflow, UnknownFamily
from epaird.ipc.slots import Slots
from epaird.kernel.errors import KernelError
from epaird.kernel.namespace import is_of_process
from epaird.kernel.printable import canonical
from epaird.kernel.watch import Key, LinkEvent
from epaird.names.cloners import Cloner, cloner_of, interface_of
from epaird.names.macpool import MacPool
from epaird.plan.steps import Restore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """The interface or pair that a name refers to."""

    clone: Clone
    """The pair or the loopback."""
    ifnet: Ifnet | None
    """The one interface that the name refers to; None for a pair as a whole."""

    @property
    def ifnets(self) -> tuple[Ifnet, ...]:
        """The interface, or all of the clone."""
        return self.clone.ifnets if self.ifnet is None else (self.ifnet,)


class Registry:
    """All interfaces of the daemon."""

    def __init__(
        self,
        host: Host,
        table: Table,
        slots: Slots,
        workers: Sequence[Worker],
        macs: MacPool,
        *,
        loopbacks: bool,
    ) -> None:
        """``loopbacks`` is True when loopbacks can be created."""
        self._environment = environment = Environment.of(host, table, slots, workers)
        self.pairs = Pairs(environment, macs)
        self.loopbacks = Loopbacks(environment)
        self.kinds: tuple[AnyKind, ...] = (self.pairs, self.loopbacks)
        self._by_kind: dict[str, AnyKind] = {kind.cloner.name: kind for kind in self.kinds}
        self._disabled: set[str] = set()
        self.allow_loopbacks(loopbacks)
        self._being_created: set[str] = set()
        self.withdrawn: set[str] = set()
        """Interfaces that a request has destroyed, and nothing has created again since."""
        self._changing = asyncio.Lock()
        self.missing: Callable[[], tuple[MissingReading, ...]] = tuple
        """Returns the interfaces of the configuration that do not exist."""
        self._not_followed: dict[str, tuple[Stray | None, str]] = {}
        """Strays that could not be moved, by device, and the reason that was logged."""
        self._in_place = InPlace(host, environment.convergence, environment.tracker)

    @property
    def bus(self) -> EventBus:
        """Publishes events."""
        return self._environment.bus

    @property
    def cloners(self) -> tuple[Cloner, ...]:
        """The kinds that can be created."""
        return tuple(kind.cloner for kind in self.kinds if kind.cloner.name not in self._disabled)

    def allow_loopbacks(self, allowed: bool) -> None:
        """Set whether loopbacks can be created."""
        name = self.loopbacks.cloner.name
        self._disabled = self._disabled - {name} if allowed else self._disabled | {name}

    # Lookup.

    def __iter__(self) -> Iterator[Clone]:
        for kind in self.kinds:
            yield from kind

    @property
    def ifnets(self) -> tuple[Ifnet, ...]:
        """The interfaces of all kinds."""
        return tuple(ifnet for kind in self.kinds for ifnet in kind.ifnets)

    @property
    def names(self) -> set[str]:
        """The names of the clones that exist and are not being destroyed."""
        return {clone.name for clone in self if not clone.destroying}

    def kind_of(self, clone: Clone) -> AnyKind:
        """Return the kind of a clone."""
        return self._by_kind[clone.kind]

    def get(self, name: str) -> Clone | None:
        """Return the clone of a name, even while it is being destroyed."""
        return next((found for kind in self.kinds if (found := kind.get(name)) is not None), None)

    def find(self, name: str) -> Found | None:
        """Return the interface or pair that a name refers to.

        It is the name of an interface or a pair, which never changes, or else that of a device in the
        daemon's own namespace, in the printable form."""
        ifnets = self.ifnets
        with contextlib.suppress(ValueError):  # a surrogate that stands for no byte: no name has it
            name = canonical(name)
        for ifnet in ifnets:
            if ifnet.device == name:
                return Found(ifnet.clone, ifnet)
        if (clone := self.get(name)) is not None:
            return Found(clone, None)
        for ifnet in ifnets:
            if ifnet.place.name == name and ifnet.place.nsid is None:
                return Found(ifnet.clone, ifnet)
        return None

    def is_foreign(self, name: str) -> bool:
        """Return whether a device of this name in the daemon's own namespace is none of the daemon's."""
        own = interface_of(name)
        if self.find(name) is not None or (own is not None and own[1] in self._being_created):
            return False
        return self._environment.host.has_device(name)

    def units(self, cloner: Cloner) -> set[int]:
        """Return the units of a kind that exist or are being created."""
        names = [clone.name for clone in self._by_kind[cloner.name]]
        names += [name for name in self._being_created if name.startswith(cloner.name)]
        return {cloner.unit_of(name) for name in names}

    def awaited(self, cloner: Cloner) -> set[int]:
        """Return the units of a kind that are missing and created again when that is possible."""
        names = {each.interface for each in self.missing() if each.kind == cloner.name}
        return {cloner.unit_of(name) for name in names - self.withdrawn}

    # Changes.

    async def create(self, name: str, settings: InterfaceSettings, origin: Origin = "configuration") -> None:
        """Create an interface with the settings of its kind.

        Raises KernelError, EEXIST when the name is taken, WorkerLost or WorkerRefused."""
        kind = self._by_kind[cloner_of(name, [each.cloner for each in self.kinds]).name]
        with self._claimed(name):
            await kind.create(name, settings, origin)
        self.withdrawn.discard(name)

    async def destroy(self, clone: Clone) -> None:
        """Destroy an interface; return when it is gone."""
        await self.kind_of(clone).destroy(clone)

    async def destroy_all(self) -> None:
        """Destroy every interface."""
        await together(*(kind.destroy_all() for kind in self.kinds))

    async def change(self, changes: Sequence[tuple[Clone, InterfaceSettings]]) -> None:
        """Apply other settings to interfaces in place, all or none.

        Raises Refused, KernelError, WorkerLost or WorkerRefused; the error has a note for each thing that is
        not as before."""
        async with self._changing:
            await whole(
                self._in_place.apply([self.kind_of(clone).changing(clone, then) for clone, then in changes])
            )

    async def change_keys(self, found: Found, request: Mapping[str, object]) -> None:
        """Change the keys of a request in place. Raises InvalidConfiguration or as :meth:`change`."""
        kind = self.kind_of(found.clone)
        async with self._changing:
            then = kind.merged(found.clone, found.ifnet, request)
            keys = kind.requested(found.clone, found.ifnet, request)
            await whole(self._in_place.apply([kind.changing(found.clone, then, keys)]))

    async def restore(self, goals: Iterable[Goal]) -> None:
        """Give devices what they are to have. Raises KernelError."""
        await whole(self._in_place.restore(goals))

    async def lacks(self, configured: Mapping[str, DeviceSettings] = NO_SETTINGS) -> tuple[Restore, ...]:
        """Return what devices lack of their settings, for each that lacks anything. Raises KernelError.

        ``configured`` are the settings of devices in a configuration, if they may differ from the recorded
        ones; they determine in which namespace a device belongs."""
        return await self._environment.convergence.lacks(self.ifnets, configured)

    def check_names(self) -> tuple[Ifnet, ...]:
        """Resolve the names of the interfaces' namespaces, and report changes.

        Return the strays that :meth:`relocate` can move."""
        return self._environment.strays.check(self.ifnets)

    async def relocate(self, ifnet: Ifnet) -> None:
        """Move a stray to where the name of its namespace leads now, and configure it there.

        Its pair is not created again: peer, hardware address and counters stay. Does nothing for an
        interface that is no stray. Raises KernelError before the device has moved, or when it could not be
        configured there."""
        async with self._changing:
            if ifnet.stray is not None and not ifnet.destroying:
                await whole(self.kind_of(ifnet.clone).relocate(ifnet))

    async def follow_names(self) -> bool:
        """Move every stray to where the name of its namespace leads now; a failure is logged once.

        Return whether there was none, so that another attempt has nothing to do.
        The number of a process in a path may be another one's by now: only a reload follows that."""
        logged, self._not_followed = self._not_followed, {}
        for ifnet in self.check_names():
            stray = ifnet.stray
            if is_of_process(ifnet.settings.netns or ""):
                continue
            try:
                await self.relocate(ifnet)
            except KernelError as error:
                self._not_followed[ifnet.device] = failure = (stray, str(error))
                if logged.get(ifnet.device) != failure:
                    log.error("%s: it stays where it is", error)
        return not self._not_followed

    async def reassign(self, clone: Clone, workers: tuple[Worker, ...]) -> None:
        """Move the queues of an interface to other workers. Raises WorkerLost or WorkerRefused."""
        if not clone.destroying:
            clone.assign(workers)
            await self.kind_of(clone).rewire(clone)

    def set_drain_timeout(self, seconds: float) -> None:
        """Set how long the frames of an interface that is destroyed may wait for a receiver."""
        self._environment.unregistering.drain_timeout_s = seconds

    # State.

    def readings(self, found: Found) -> tuple[InterfaceReading, ...]:
        """Return the present state of what a name refers to. Raises KernelError."""
        return self.kind_of(found.clone).readings(found.ifnets)

    def reading(self) -> Reading:
        """Return the present state of all interfaces and workers. Raises KernelError."""
        return Reading(
            tuple(reading for kind in self.kinds for reading in kind.readings()),
            tuple(worker.reading() for worker in self._environment.workers),
        )

    def track(self, clone: Clone) -> None:
        """Track the interfaces of a clone that was taken over."""
        self.kind_of(clone).track(clone)

    @property
    def known_devices(self) -> Container[Key]:
        """The devices whose link events are to be handled."""
        return self._environment.tracker.known

    def link_event(self, event: LinkEvent) -> None:
        """Handle a link event of any device."""
        self._environment.tracker.link_event(event)

    async def poll_namespaces(self) -> None:
        """Poll the interfaces in other namespaces, of which the kernel reports nothing, until cancelled."""
        await self._environment.tracker.poll_namespaces()

    async def check_all(self) -> None:
        """Look up the state of every interface, where events may have been missed, and repair it."""
        self._environment.tracker.check_all()
        for kind in self.kinds:
            kind.refresh()
        await self._environment.convergence.repaired()

    # Reports of workers.

    def device_gone(self, device: str) -> None:
        """Handle a worker's report that a device no longer exists."""
        self._environment.tracker.device_gone(device)

    async def worker_lost(self, worker: Worker) -> None:
        """Settle the account of a worker that has died."""
        for kind in self.kinds:
            await kind.settle(worker)

    def balance(self) -> None:
        """Settle the accounts that a predecessor may have left unsettled."""
        for kind in self.kinds:
            kind.balance()

    def worker_reported(self, worker: Worker, report: Drained | Overflow | UnknownFamily) -> None:
        """Publish or log what a worker has reported."""
        match report:
            case Drained():
                half = self.pairs.half(worker.impairing.drained(report.cable, report.port))
                if half is not None and half.line is not None:
                    half.line.drained()
                    self.bus.changed()
            case Overflow():
                what = "overflow" if report.full else "drained"
                self.bus.publish(what, report.name, f"worker {worker.number}")
            case UnknownFamily():
                log.warning(
                    "%s: a packet is neither IPv4 nor IPv6 (its first four bits are %d): such packets are "
                    "not delivered, and counted as ierrors of reason family",
                    report.name, report.version,
                )  # fmt: skip

    @contextlib.contextmanager
    def _claimed(self, name: str) -> Iterator[None]:
        """Reserve a name while its interface is being created. Raises KernelError, EEXIST."""
        if name in self._being_created or self.get(name) is not None:
            raise KernelError(errno.EEXIST, f"{name} exists already")
        self._being_created.add(name)
        try:
            yield
        finally:
            self._being_created.discard(name)
