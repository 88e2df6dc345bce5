"""The kernel's operations on devices and namespaces, for the event loop.

``epaird.kernel`` blocks, and some of its calls enter another namespace for a moment. So those run in one
thread of their own, one after the other, and requests for several devices are carried out together. ioctls on
a device's descriptor and the dump of statistics take microseconds to a few milliseconds, and are called
directly.

A device is created in the daemon's own namespace ("home") and moved to its own, which takes the kernel 16 ms.
Only in namespaces that the daemon created are devices created in place. Their descriptors then keep the
namespace alive, so the daemon watches for the loss of the namespace's name and reports it as the loss of the
namespace.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final, ParamSpec, TypeVar

from epaird.control.machine.batches import Batches
from epaird.control.machine.bulk import Configuring, Home, Opening, configure_all, open_all
from epaird.control.tasks import whole
from epaird.kernel import link, namespace, removal, tun
from epaird.kernel.convergence import Target, converge, default_qdiscs
from epaird.kernel.errors import KernelError
from epaird.kernel.hardware import hardware_addresses, hardware_addresses_of
from epaird.kernel.link import LinkChange, LinkSettings
from epaird.kernel.namespace import Identity
from epaird.kernel.netlink import RouteSocket
from epaird.kernel.netnswatch import NameWatch
from epaird.kernel.nscookie import cookie
from epaird.kernel.state import DeviceState, present
from epaird.kernel.statistics import LinkReader, LinkStatistics
from epaird.kernel.tun import Tap
from epaird.kernel.watch import LinkEvent, LinkEventKind, LinkWatch
from epaird.names.macpool import DeviceNumber

P = ParamSpec("P")
T = TypeVar("T")

_SETTERS: Final[Mapping[str, Callable[..., None]]] = {
    "mac": link.set_mac,
    "mtu": link.set_mtu,
    "txqueuelen": link.set_txqueuelen,
    "name": link.set_name,
    "up": link.set_up,
}
"""Functions that set a property of a device."""


@dataclass(frozen=True, slots=True)
class Place:
    """The location of a device."""

    name: str
    """Name of the device in its namespace."""
    index: int
    """Interface index of the device in its namespace."""
    netns: str
    """Name or path of the namespace; empty for the daemon's own."""
    nsid: int | None
    """Id of the namespace in the daemon's own; None for the daemon's own."""
    identity: Identity
    """Device and inode of the namespace."""


@dataclass(frozen=True, slots=True)
class _Owned:
    """A namespace that the daemon created."""

    nsid: int
    """Id of the namespace in the daemon's own."""
    identity: Identity
    """Device and inode of the namespace."""


class Host:
    """This machine. All operations raise KernelError."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kernel")
        self._home = namespace.identity(None)
        self._reader = LinkReader()
        self._watch: LinkWatch | None = None
        self.watches_all_namespaces = True
        """True while :meth:`watch` also reports events of other namespaces."""
        self._names: NameWatch | None = None
        self._happened: Callable[[LinkEvent], None] | None = None
        self._owned: dict[str, _Owned] = {}
        """Namespaces that the daemon created, by path."""
        self._in_place: dict[Tap, Place] = {}
        """Devices that were created in place."""
        self._numbers: dict[Tap, DeviceNumber] = {}
        """Numbers of the TAP devices that this process has created."""
        self._openings: Batches[Opening, Tap] = Batches(lambda batch: self._run(open_all, batch))
        self._configurings: Batches[Configuring, None] = Batches(
            lambda batch: self._run(configure_all, batch)
        )
        self._lookups: Batches[int | None, frozenset[str]] = Batches(
            lambda batch: self._run(hardware_addresses_of, batch), at_once=1 << 16
        )
        self._removals: Batches[Iterable[Tap], None] = Batches(self._remove, at_once=1 << 16)

    @property
    def home(self) -> Identity:
        """Identity of the daemon's own namespace."""
        return self._home

    def close(self) -> None:
        """Stop watching, and end the thread."""
        self.stop_watching()
        self._stop_watching_names()
        self._reader.close()
        self._thread.shutdown()

    async def make_namespace(self, name: str, known: Callable[[Identity], None]) -> None:
        """Create a namespace whose lo is up.

        ``known`` is called with its identity before it has its name, in a thread."""

        async def make() -> None:
            await self._run(namespace.create, name, known)
            try:
                await self.own_namespace(name)
            except KernelError:
                await self._run(namespace.remove, name)
                raise

        await whole(make())

    async def own_namespace(self, name: str) -> None:
        """Treat a namespace as one that the daemon created."""

        def identify() -> _Owned:
            with namespace.opened(name) as fd:
                return _Owned(link.namespace_id(fd), namespace.identity(name))

        self._owned[namespace.path_of(name)] = await self._run(identify)
        if self._names is None:
            self._names = NameWatch()
            asyncio.get_running_loop().add_reader(self._names.fileno(), self._name_removed)

    async def remove_namespace(self, name: str) -> None:
        """Remove the name of a namespace."""
        self._disown(namespace.path_of(name))
        await self._run(namespace.remove, name)

    def namespace_identity(self, name: str) -> Identity:
        """Return the identity of the namespace of a name."""
        return namespace.identity(name)

    async def open_tap(
        self, device: str, *, queues: int, offload: bool, name: str | None = None, netns: str | None = None
    ) -> Tap:
        """Create a TAP device, which is down.

        It is called ``name`` in ``netns`` where that is a namespace that the daemon created, and ``device``
        at home otherwise."""

        cookies: list[int] = []

        def make(name: str) -> Tap:
            cookies.append(cookie())
            return tun.open_tap(name, queues=queues, offload=offload)

        owned = self._owned.get(namespace.path_of(netns)) if netns is not None else None
        if netns is None or owned is None:
            tap = await self._openings.ask(Opening(device, device, None, make))
            self._numbers[tap] = DeviceNumber(cookies[-1], tap.index)
            return tap
        name = name or device
        tap = await self._openings.ask(Opening(device, name, Home(netns, owned.identity), make))
        self._in_place[tap] = Place(name, tap.index, netns, owned.nsid, owned.identity)
        self._numbers[tap] = DeviceNumber(cookies[-1], tap.index)
        return tap

    async def open_tun(self, name: str) -> Tap:
        """Create a TUN device at home, which is down."""
        return await self._openings.ask(Opening(name, name, None, tun.open_tun))

    def at_home(self, tap: Tap) -> Place:
        """Return the place of a device that was just created."""
        return self._in_place.get(tap) or Place(tap.name, tap.index, "", None, self._home)

    def has_device(self, name: str) -> bool:
        """Return whether the daemon's own namespace has a device of this name, whoever made it."""
        return link.exists(name)

    def number_of(self, tap: Tap) -> DeviceNumber:
        """Return the number of a TAP device that this process has created; no other device has had it."""
        return self._numbers[tap]

    async def hardware_addresses(self, place: Place) -> frozenset[str]:
        """Return the hardware addresses of all devices in the namespace of a place."""
        return await self._lookups.ask(place.nsid)

    def hardware_addresses_now(self, place: Place) -> frozenset[str]:
        """Return the same at once; it takes some milliseconds."""
        return hardware_addresses(place.nsid)

    def set_sndbuf(self, tap: Tap, size: int) -> None:
        """Limit the bytes delivered to a device and not yet consumed."""
        for fd in tap.fds:
            tun.set_sndbuf(fd, size)

    def set_offload(self, tap: Tap, on: bool) -> Tap:
        """Set every offload of a device, or none; return it with those that are in force then."""
        return tun.set_offload(tap, on)

    def set_carrier(self, tap: Tap, on: bool) -> None:
        """Set the carrier of a device."""
        tun.set_carrier(tap.fds[0], on)

    def is_up(self, tap: Tap) -> bool:
        """Return IFF_UP; correct only for a device without a sndbuf limit."""
        return tun.is_up(tap.fds[0])

    async def close_taps(self, taps: Iterable[Tap]) -> None:
        """Destroy devices."""
        taps = tuple(taps)
        for tap in taps:
            self._in_place.pop(tap, None)
            self._numbers.pop(tap, None)
        await self._removals.ask(taps)

    async def place(self, tap: Tap, name: str, netns: str | None) -> Place:
        """Move a new device to its namespace under ``name``, unless it is in it already; return its place."""
        if (place := self._in_place.pop(tap, None)) is not None:
            return place
        if netns is None and name == tap.name:
            return self.at_home(tap)

        def move() -> Place:
            index = link.place(tap.index, name, netns, device=tap.name)
            if netns is None:
                return Place(name, index, "", None, self._home)
            with namespace.opened(netns) as fd:
                identity = namespace.identity(netns)
                nsid = None if identity == self._home else link.namespace_id(fd)
                return Place(name, index, netns, nsid, identity)

        return await self._run(move)

    async def configure(self, tap: Tap, place: Place, settings: LinkSettings) -> None:
        """Set the properties, addresses and routes of a device in its place."""
        change = LinkChange(tap.name, link.configuration_requests(place.index, settings))
        await self._configurings.ask(Configuring(place.netns or None, change))

    async def set_property(self, tap: Tap, place: Place, key: str, value: Any) -> None:  # noqa: ANN401
        """Set ``mac``, ``mtu``, ``txqueuelen``, ``name`` or ``up`` of a device in its place."""
        setter = _SETTERS[key]
        await self._run(setter, place.index, value, netns=place.netns or None, device=tap.name)

    async def present(self, namespaces: Iterable[str]) -> dict[str, dict[int, DeviceState]]:
        """Return the state of the devices of these namespaces by index; ``""`` is home.

        A namespace that is gone is left out."""

        def collect() -> dict[str, dict[int, DeviceState]]:
            found = {}
            for netns in namespaces:
                with contextlib.suppress(KernelError), _socket_in(netns) as route:
                    found[netns] = present(route)
            return found

        return await self._run(collect)

    async def converge(self, targets: Sequence[tuple[Tap, Place, Target]]) -> list[KernelError | None]:
        """Give devices what they are to have, those of a namespace together.

        Returns, for each target in order, the first refusal that remained, or None."""
        return await self._run(_converge_all, [(place.netns, target) for _, place, target in targets])

    def find(self, tap: Tap, last: Place) -> Place:
        """Return the current place of a device, which was last seen at ``last``.

        Raises KernelError, EBADFD when the device is gone."""
        fd = tap.fds[0]
        name = tun.current_name(fd)
        if tun.namespace_of(fd) == last.identity:
            return replace(last, name=name)
        with tun.opened_namespace_of(fd) as netns:
            status = os.fstat(netns)
            identity = Identity(status.st_dev, status.st_ino)
            nsid = None if identity == self._home else link.namespace_id(netns)
        index = next((each.index for each in self.statistics(nsid).values() if each.name == name), 0)
        netns_name = "" if nsid is None else namespace.name_of(identity)
        return Place(name, index, netns_name, nsid, identity)

    def statistics(self, nsid: int | None) -> dict[int, LinkStatistics]:
        """Return the kernel's counters and flags of the devices of a namespace, by interface index."""
        return self._reader.read(nsid)

    def watch(self, happened: Callable[[LinkEvent], None]) -> None:
        """Call ``happened`` for each event of a device in any namespace that has an id in this one."""
        watch = self._watch = LinkWatch()
        self.watches_all_namespaces = watch.everywhere
        self._happened = happened

        def readable() -> None:
            for event in watch.read():
                happened(event)

        asyncio.get_running_loop().add_reader(watch.fileno(), readable)
        self._check_names()

    def stop_watching(self) -> None:
        """Report no more events."""
        self._happened = None
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()
            self._watch = None

    def _name_removed(self) -> None:
        if self._names is not None:
            self._names.drain()
        self._check_names()

    def _check_names(self) -> None:
        """Report each namespace that the daemon created and that has lost its name."""
        for path, owned in tuple(self._owned.items()):
            if self._happened is not None and not _leads_to(path, owned.identity):
                self._disown(path)
                self._happened(LinkEvent(LinkEventKind.NAMESPACE_GONE, nsid=owned.nsid))

    def _disown(self, path: str) -> None:
        """Forget a namespace that the daemon created; after the last one, stop watching names."""
        self._owned.pop(path, None)
        if not self._owned:
            self._stop_watching_names()

    def _stop_watching_names(self) -> None:
        if self._names is not None:
            asyncio.get_running_loop().remove_reader(self._names.fileno())
            self._names.close()
            self._names = None

    async def _remove(self, requests: Sequence[Iterable[Tap]]) -> list[Exception | None]:
        await self._run(removal.remove, [tap for taps in requests for tap in taps])
        return [None] * len(requests)

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        # A cancellation takes effect before or after the call, never during it: the result would be
        # unknown.
        await asyncio.sleep(0)
        return await whole(
            asyncio.get_running_loop().run_in_executor(self._thread, lambda: function(*args, **kwargs))
        )


def _converge_all(targets: Sequence[tuple[str, Target]]) -> list[KernelError | None]:
    qdiscs = default_qdiscs()
    outcomes: dict[int, KernelError | None] = {}
    for netns in dict.fromkeys(netns for netns, _ in targets):
        numbers = [number for number, (each, _) in enumerate(targets) if each == netns]
        try:
            with _socket_in(netns) as route:
                refusals = converge(route, [targets[number][1] for number in numbers], qdiscs)
            outcomes |= dict(zip(numbers, refusals, strict=True))
        except KernelError as error:
            outcomes |= dict.fromkeys(numbers, error)
    return [outcomes[number] for number in range(len(targets))]


@contextlib.contextmanager
def _socket_in(netns: str) -> Iterator[RouteSocket]:
    """Open a socket in a namespace; the thread is inside until the block ends. Empty: the daemon's own."""
    with contextlib.ExitStack() as stack:
        if netns:
            stack.enter_context(namespace.inside(netns))
        yield stack.enter_context(contextlib.closing(RouteSocket()))


def _leads_to(path: str, identity: Identity) -> bool:
    try:
        return namespace.identity(path) == identity
    except KernelError:
        return False
