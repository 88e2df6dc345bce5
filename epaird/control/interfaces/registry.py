"""What can be asked of the running daemon, with BSD's names, rules and errors."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

from epaird.config.reading import InvalidConfiguration, parse
from epaird.config.settings import LoopbackSettings, PairSettings
from epaird.control.interfaces.events import Bus, Reader
from epaird.control.interfaces.ifnet import Half, Loopback, Origin, Pair
from epaird.control.interfaces.inplace import InPlace
from epaird.control.interfaces.loopbacks import Loopbacks
from epaird.control.interfaces.pairs import Pairs
from epaird.control.interfaces.sightings import Sightings
from epaird.control.machine.host import Host
from epaird.control.operations import Refused
from epaird.control.readings import InterfaceReading, Reading
from epaird.control.tasks import together, whole
from epaird.control.workers.worker import Worker, WorkerLost, WorkerRefused
from epaird.ipc.ledger import Slots, Table
from epaird.ipc.messages import Overflow, UnknownFamily
from epaird.kernel.errors import KernelError
from epaird.kernel.watch import LinkEvent
from epaird.names.cloners import EPAIR, LO, Cloner, cloner_of
from epaird.names.grammar import InvalidName, quoted
from epaird.names.macpool import MacPool

log = logging.getLogger(__name__)

DEFAULT_LOOPBACK = "lo0"
"""The one that exists wherever loopbacks do."""


class Interfaces:
    """Every interface of the daemon."""

    def __init__(
        self,
        host: Host,
        table: Table,
        slots: Slots,
        workers: Sequence[Worker],
        macs: MacPool,
        *,
        loopbacks: bool,
        upgrade: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """``loopbacks``: whether there can be any; ``upgrade`` executes the program again."""
        self._upgrade = upgrade
        self.bus = Bus()
        self._workers = workers
        self._cloners = (EPAIR, LO) if loopbacks else (EPAIR,)
        self._sightings = Sightings(host, self.bus)
        self.pairs = Pairs(host, table, slots, workers, bus=self.bus, sightings=self._sightings, macs=macs)
        self.loopbacks = Loopbacks(host, table, slots, workers, bus=self.bus, sightings=self._sightings)
        self._in_place = InPlace(host, self.pairs, self.loopbacks)
        self._making: set[str] = set()
        """Names of those that are being made."""

    # What a front end asks for.

    async def create(self, name: str, settings: Mapping[str, object]) -> str:
        """Create an interface.  Raises Refused."""
        with _refusing():
            cloner = cloner_of(name, self._cloners)
            unit = cloner.unit(name)
            if unit is not None:
                await self._create(cloner, name, settings)
                return name
            return await self._create_lowest(cloner, settings)

    async def destroy(self, name: str) -> None:
        """Destroy a pair by its name or either half's, or a loopback.  Raises Refused."""
        with _refusing():
            found = self._find(name)
            if isinstance(found, Loopback) and LO.unit(found.device) in LO.permanent:
                raise Refused(errno.EPERM, f"{found.device} is the default and cannot be destroyed")
            if found.going:
                raise _busy(name)
            if isinstance(found, Loopback):
                await whole(self.loopbacks.destroy(found))
            else:
                await whole(self.pairs.destroy(found.pair if isinstance(found, Half) else found))

    async def change(self, name: str, settings: Mapping[str, object]) -> None:
        """Change an interface, or both halves of a pair, in place.  Raises Refused."""
        with _refusing():
            found = self._find(name)
            if found.going:
                raise _busy(name)
            try:
                await self._in_place.change(found, settings)
            finally:
                self.bus.changed()

    async def patch(self, name: str, peer: str, *, force: bool) -> None:
        """Plug a half into another; each leaves its old peer.  Raises Refused."""
        with _refusing():
            half, other = self._half(name), self._half(peer)
            if half is other:
                raise Refused(errno.EINVAL, f"{name} cannot be patched to itself")
            if half.peer is other:
                return
            if other.peer is not None and not force:
                raise Refused(
                    errno.EBUSY, f"{peer} is patched to {other.peer.device}; unpatch it first, or use force"
                )
            if len(half.slots) != len(other.slots):
                raise Refused(
                    errno.EINVAL,
                    f"{name} has {len(half.slots)} queues and {peer} has {len(other.slots)}: both must have "
                    "as many",
                )
            try:
                await self.pairs.patching.patch(half, other)
            finally:
                self.bus.changed()

    async def unpatch(self, name: str) -> None:
        """Unplug a half.  Raises Refused."""
        with _refusing():
            try:
                await self.pairs.patching.unpatch(self._half(name))
            finally:
                self.bus.changed()

    async def upgrade(self) -> None:
        """Execute the program as it is now, while the workers go on.  Raises Refused."""
        if self._upgrade is None:
            raise Refused(errno.EOPNOTSUPP, "this daemon cannot be upgraded")
        await self._upgrade()

    def cloners(self) -> tuple[str, ...]:
        """The kinds of interfaces that can be created."""
        return tuple(cloner.name for cloner in self._cloners)

    def reading(self) -> Reading:
        """Everything as it is now.  Raises KernelError."""
        return Reading(
            (*self.pairs.readings(), *self.loopbacks.readings()),
            tuple(worker.reading() for worker in self._workers),
        )

    def interface(self, name: str) -> tuple[InterfaceReading, ...]:
        """One interface, or both halves of a pair.  Raises Refused, ENXIO when there is none."""
        with _refusing():
            found = self._find(name)
            devices = [each.device for each in (found.halves if isinstance(found, Pair) else (found,))]
            readings = self.pairs.readings() if not isinstance(found, Loopback) else self.loopbacks.readings()
            return tuple(each for each in readings if each.device in devices)

    def events(self) -> Reader:
        """Events as they happen, from now on."""
        return self.bus.read()

    # What the daemon asks for.

    async def create_pair(self, name: str, settings: PairSettings, origin: Origin = "configuration") -> None:
        """Make a pair.  Raises KernelError, WorkerLost or WorkerRefused."""
        with self._claimed(name):
            await self.pairs.create(name, settings, origin)

    async def create_loopback(
        self, name: str, settings: LoopbackSettings, origin: Origin = "configuration"
    ) -> None:
        """Make a loopback.  Raises KernelError, WorkerLost or WorkerRefused."""
        with self._claimed(name):
            await self.loopbacks.create(name, settings, origin)

    async def give(self, found: Pair | Loopback, settings: PairSettings | LoopbackSettings) -> None:
        """Give an interface other settings, all of them, in place.

        Raises Refused, KernelError, WorkerLost or WorkerRefused; then things are as before."""
        if found.going:
            raise _busy(found.name if isinstance(found, Pair) else found.device)
        await self._in_place.give(found, settings)

    def allow_loopbacks(self, allowed: bool) -> None:
        """Whether loopbacks can be made."""
        self._cloners = (EPAIR, LO) if allowed else (EPAIR,)

    def drain_for(self, patience_s: float) -> None:
        """How long the frames of an interface that goes may wait for a receiver, from now on."""
        self.pairs.unregistering.patience_s = self.loopbacks.unregistering.patience_s = patience_s

    async def destroy_all(self) -> None:
        """Take every interface down."""
        await together(self.pairs.destroy_all(), self.loopbacks.destroy_all())

    def happened(self, event: LinkEvent) -> None:
        """Something happened to a device, ours perhaps."""
        self._sightings.happened(event)

    async def look_away(self) -> None:
        """For ever: see what becomes of interfaces in other namespaces, where nothing is told of it."""
        await self._sightings.look_away()

    def look_at_all(self) -> None:
        """See what has become of everything, where nothing was told of it."""
        self._sightings.look_at_all()
        for half in self.pairs.halves:
            self.pairs.patching.see_to_carrier(half)

    def sight(self, ifnet: Half | Loopback) -> None:
        """Watch an interface that was taken over."""
        if isinstance(ifnet, Half):
            self.pairs.sight(ifnet)
        else:
            self.loopbacks.sight(ifnet)

    def gone(self, device: str) -> None:
        """A worker has found a device vanished."""
        self._sightings.gone(device)

    async def worker_lost(self, worker: Worker) -> None:
        """A worker has died: settle its account."""
        await self.pairs.worker_lost(worker)
        await self.loopbacks.worker_lost(worker)

    def told(self, worker: Worker, news: Overflow | UnknownFamily) -> None:
        """A worker has something to tell."""
        match news:
            case Overflow():
                found = f", found so by {news.name}" if news.name else ""
                self.bus.tell("overflow" if news.full else "drained", "", f"worker {worker.number}{found}")
            case UnknownFamily():
                log.warning(
                    "%s: a packet is neither IPv4 nor IPv6 (its first four bits are %d): such are not "
                    "delivered, and counted as ierrors of reason family",
                    news.name, news.version,
                )  # fmt: skip

    async def _create_lowest(self, cloner: Cloner, settings: Mapping[str, object]) -> str:
        """Create with the lowest unit that nobody has, in the daemon or outside of it."""
        foreign: set[int] = set()
        while True:
            unit = cloner.lowest(self._units(cloner) | foreign)
            name = f"{cloner.name}{unit}"
            try:
                await self._create(cloner, name, settings)
            except KernelError as error:
                if error.errno != errno.EEXIST or not _is_about(error, cloner.devices(unit)):
                    raise
                foreign.add(unit)
            else:
                return name

    async def _create(self, cloner: Cloner, name: str, settings: Mapping[str, object]) -> None:
        # The table is read before the name is claimed, so that a mistake in it is told first.
        configuration = parse({cloner.name: {name: settings}})
        if cloner is EPAIR:
            await self.create_pair(name, configuration.epair[name], "runtime")
        elif configuration.lo is not None:
            await self.create_loopback(name, configuration.lo[name], "runtime")

    @contextlib.contextmanager
    def _claimed(self, name: str) -> Iterator[None]:
        """The name is somebody's while the interface is being made.  Raises KernelError, EEXIST."""
        if name in self._making or name in self._names():
            raise KernelError(errno.EEXIST, f"{name} exists already")
        self._making.add(name)
        try:
            yield
        finally:
            self._making.discard(name)

    def _names(self) -> set[str]:
        return {pair.name for pair in self.pairs} | {loopback.device for loopback in self.loopbacks}

    def _units(self, cloner: Cloner) -> set[int]:
        names = [name for name in (*self._names(), *self._making) if name.startswith(cloner.name)]
        return {unit for name in names if (unit := cloner.unit(name)) is not None}

    def _half(self, name: str) -> Half:
        found = self._find(name)
        if isinstance(found, Loopback):
            raise Refused(errno.ENODEV, f"{name} is a loopback, which has no plug")
        if isinstance(found, Pair):
            a, b = (half.device for half in found.halves)
            raise Refused(errno.EINVAL, f"{name} is a pair: name one of its halves, {a} or {b}")
        if found.going:
            raise _busy(name)
        return found

    def _find(self, name: str) -> Pair | Half | Loopback:
        """What bears a name: as its own, which nothing takes from it, or in the daemon's own namespace."""
        for pair in self.pairs:
            if pair.name == name:
                return pair
        everything: tuple[Half | Loopback, ...] = (*self.pairs.halves, *self.loopbacks)
        for ifnet in everything:
            if ifnet.device == name:
                return ifnet
        for ifnet in everything:
            if ifnet.place.name == name and ifnet.place.nsid is None:
                return ifnet
        raise Refused(errno.ENXIO, f"there is no interface {quoted(name)}")


def _is_about(error: KernelError, devices: tuple[str, ...]) -> bool:
    return str(error).startswith(tuple(f"{device}: " for device in devices))


def _busy(name: str) -> Refused:
    return Refused(errno.EBUSY, f"{name} is being destroyed")


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Whatever is in the way of a request, as a refusal."""
    try:
        yield
    except InvalidName as error:
        raise Refused(error.errno, str(error)) from error
    except InvalidConfiguration as error:
        raise Refused(errno.EINVAL, "; ".join(error.problems), error.problems) from error
    except KernelError as error:
        raise Refused(error.errno, str(error)) from error
    except (WorkerLost, WorkerRefused) as error:
        raise Refused(errno.EIO, str(error)) from error
