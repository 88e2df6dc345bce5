"""Requests to create, show, change and destroy interfaces, with the BSDs' names and errors."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence

from epaird.client.impairment import PairImpairment
from epaird.config.reading import InvalidConfiguration, parse
from epaird.control.interfaces.events import EventReader
from epaird.control.interfaces.ifnet import Half
from epaird.control.interfaces.impairrequests import ImpairmentRequests
from epaird.control.interfaces.inplace import busy, with_notes
from epaird.control.interfaces.registry import Found, Registry
from epaird.control.operations import Refused
from epaird.control.readings import InterfaceReading, MissingReading, ProcessReading, Reading
from epaird.control.tasks import whole
from epaird.control.workers.worker import WorkerLost, WorkerRefused
from epaird.kernel.errors import KernelError
from epaird.names.cloners import Cloner, cloner_of
from epaird.names.grammar import InvalidName, quoted


class FrontEnd:
    """Carries out requests; implements :class:`epaird.control.operations.Operations`."""

    def __init__(
        self,
        registry: Registry,
        *,
        upgrade: Callable[[], Awaitable[None]] | None = None,
        workers: Callable[[], Sequence[ProcessReading]] = lambda: (),
        commit: Callable[[Collection[str]], None] = lambda _: None,
    ) -> None:
        """``upgrade`` executes the program again, ``workers`` returns the worker processes.

        ``commit`` is called with the names of what a request has changed, before the request is
        answered: a successor then knows of the change, whatever happens to this process."""
        self._registry = registry
        self._upgrade = upgrade
        self._workers = workers
        self._commit = commit
        self.impairments = ImpairmentRequests(registry, self.change)

    async def create(self, name: str, settings: Mapping[str, object]) -> str:
        """Create an interface. Raises Refused."""
        with _refusing():
            cloner = cloner_of(name, self._registry.cloners)
            if cloner.unit(name) is not None:
                await self._create(cloner, name, settings)
            else:
                name = await self._create_lowest(cloner, settings)
        self._commit((name,))
        return name

    async def destroy(self, name: str) -> None:
        """Destroy a pair by its name or either half's, or a loopback. Raises Refused."""
        with _refusing():
            if self._registry.is_foreign(name):
                # ENXIO is for a name that no device has (FreeBSD's if_clone_destroy()).
                raise Refused(
                    errno.EINVAL,
                    f"{quoted(name)} was not created by epaird, which destroys only what it created",
                )
            clone = self._find(name).clone
            cloner = self._registry.kind_of(clone).cloner
            if cloner.unit_of(clone.name) in cloner.permanent:
                raise Refused(errno.EPERM, f"{clone.name} is the default and cannot be destroyed")
            if clone.destroying:
                raise busy(name)
            self._registry.withdrawn.add(clone.name)
            await whole(self._registry.destroy(clone))
        self._commit((clone.name,))

    async def change(self, name: str, settings: Mapping[str, object]) -> None:
        """Change an interface, or both halves of a pair, in place. Raises Refused."""
        with _refusing():
            found = self._find(name)
            if found.clone.destroying:
                raise busy(name)
            try:
                await self._registry.change_keys(found, settings)
            finally:
                self._registry.bus.changed()
        self._commit((found.clone.name,))

    async def patch(self, name: str, peer: str, *, force: bool) -> None:
        """Patch a half to another; each is disconnected from its old peer. Raises Refused."""
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
                    f"{name} has {len(half.slots)} queues and {peer} has {len(other.slots)} queues: both "
                    "need the same number",
                )
            touched = _pairs_of(half, other)
            try:
                await self._registry.pairs.patching.patch(half, other)
            finally:
                self._registry.bus.changed()
        self._commit(touched)

    async def unpatch(self, name: str) -> None:
        """Patch a half to none. Raises Refused."""
        with _refusing():
            half = self._half(name)
            touched = _pairs_of(half)
            try:
                await self._registry.pairs.patching.unpatch(half)
            finally:
                self._registry.bus.changed()
        self._commit(touched)

    def impairment(self, name: str) -> PairImpairment:
        """Return the impairment of what a half transmits, or of both directions. Raises Refused."""
        with _refusing():
            return self.impairments.show(self._find(name))

    async def impair(
        self, name: str, keys: Mapping[str, object], *, whole: bool, seconds: float | None = None
    ) -> None:
        """Set keys of an impairment. Raises Refused."""
        with _refusing():
            found = self._find(name)
            await self.impairments.set(found, keys, whole=whole, seconds=seconds)
        self._commit((found.clone.name,))

    def decisions(self, name: str, most: int) -> list[dict[str, object]]:
        """Return the last decisions about what a half transmits. Raises Refused."""
        with _refusing():
            return self.impairments.decisions(self._find(name), most)

    async def replay(self, name: str, decisions: Sequence[tuple[int, int]]) -> None:
        """Repeat decisions about what a half transmits. Raises Refused."""
        with _refusing():
            found = self._find(name)
            await self.impairments.replay(found, decisions)
        self._commit((found.clone.name,))

    async def upgrade(self) -> None:
        """Execute the program as it is on disk now, while the workers continue. Raises Refused."""
        if self._upgrade is None:
            raise Refused(errno.EOPNOTSUPP, "this daemon cannot be upgraded")
        await self._upgrade()

    def cloners(self) -> tuple[str, ...]:
        """Return the kinds of interfaces that can be created."""
        return tuple(cloner.name for cloner in self._registry.cloners)

    def reading(self) -> Reading:
        """Return the present state of all interfaces and workers. Raises KernelError."""
        self._registry.check_names()
        return self._registry.reading()

    def workers(self) -> Sequence[ProcessReading]:
        """Return the worker processes as they are now."""
        return self._workers()

    def missing(self) -> tuple[MissingReading, ...]:
        """Return the interfaces of the configuration that others have deleted."""
        withdrawn = self._registry.withdrawn
        return tuple(each for each in self._registry.missing() if each.interface not in withdrawn)

    def interface(self, name: str) -> tuple[InterfaceReading, ...]:
        """Return one interface, or both halves of a pair. Raises Refused, ENXIO when none has this name."""
        with _refusing():
            found = self._find(name)
            self._registry.check_names()
            return self._registry.readings(found)

    def events(self) -> EventReader:
        """Return a reader of the events from now on."""
        return self._registry.bus.read()

    async def _create_lowest(self, cloner: Cloner, settings: Mapping[str, object]) -> str:
        """Create with the lowest unit that is free, in the daemon and outside of it.

        That of an interface which is missing and created again when it can be is not free."""
        foreign: set[int] = set()
        while True:
            unit = cloner.lowest(self._registry.units(cloner) | self._registry.awaited(cloner) | foreign)
            name = f"{cloner.name}{unit}"
            try:
                await self._create(cloner, name, settings)
            except KernelError as error:
                if error.errno != errno.EEXIST or not _names_one_of(error, cloner.devices(unit)):
                    raise
                foreign.add(unit)
            else:
                return name

    async def _create(self, cloner: Cloner, name: str, settings: Mapping[str, object]) -> None:
        # The settings are checked before the name, so that a mistake in them is reported first.
        presets = self._registry.pairs.impairments.presets
        configuration = parse({cloner.name: {name: settings}, "impairment": presets})
        (kind,) = (kind for kind in self._registry.kinds if kind.cloner is cloner)
        await self._registry.create(name, kind.table_of(configuration)[name], "runtime")

    def _half(self, name: str) -> Half:
        found = self._find(name)
        if found.ifnet is None:
            a, b = (ifnet.device for ifnet in found.ifnets)
            raise Refused(errno.EINVAL, f"{name} is a pair: name one of its halves, {a} or {b}")
        half = found.ifnet.plug
        if half is None:
            raise Refused(errno.ENODEV, f"{name} is a {found.clone.noun}, which has no plug")
        if half.destroying:
            raise busy(name)
        return half

    def _find(self, name: str) -> Found:
        found = self._registry.find(name)
        if found is None:
            for each in self._registry.missing():
                if name in (each.device, each.interface):
                    reason = each.reason or "it is about to be created again"
                    raise Refused(
                        errno.ENXIO, f"{each.interface} is in the configuration and missing: {reason}"
                    )
            raise Refused(errno.ENXIO, f"there is no interface {quoted(name)}")
        return found


def _pairs_of(*halves: Half) -> set[str]:
    """Return the names of the pairs of halves and of their present peers."""
    every = {*halves, *(half.peer for half in halves if half.peer is not None)}
    return {half.pair.name for half in every}


def _names_one_of(error: KernelError, devices: tuple[str, ...]) -> bool:
    return str(error).startswith(tuple(f"{device}: " for device in devices))


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Raise the errors of a request as Refused."""
    try:
        yield
    except InvalidName as error:
        raise Refused(error.errno, str(error)) from error
    except InvalidConfiguration as error:
        raise Refused(errno.EINVAL, "; ".join(error.problems), error.problems) from error
    except KernelError as error:
        raise Refused(error.errno, with_notes(error)) from error
    except WorkerRefused as error:
        raise Refused(error.errno, with_notes(error)) from error
    except WorkerLost as error:
        raise Refused(errno.EIO, with_notes(error)) from error
