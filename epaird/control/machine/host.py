"""The kernel's operations on devices and namespaces, for the event loop.

``epaird.kernel`` blocks, and some of its calls enter another namespace for a moment. So those run in one
thread of their own, one after the other, and requests for several devices are carried out together. ioctls on
a device's descriptor and the dump of statistics take microseconds to a few milliseconds, and are called
directly.

A device is created in the daemon's own namespace ("home") and moved to its own, which takes the kernel 16 ms.
Only in namespaces that the daemon created are devices created in place. Their descriptors then keep the
namespace alive, so the daemon watches for the loss of the namespace's name and reports it as the loss of the
namespace.

A device is identified by its descriptor. An operation on one enters the namespace in which the device is, and
verifies that it is the one of the :class:`Place` that the caller has, under its index (:meth:`Host._at`). The
name of a namespace is resolved only to place a device, once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final, ParamSpec, TypeVar

from epaird.control.machine.batches import Batches
from epaird.control.machine.bulk import (
    Configuring,
    Home,
    Opening,
    configure_all,
    converge_all,
    open_all,
)
from epaird.control.machine.descriptors import Descriptors
from epaird.control.machine.ownednamespaces import OwnedNamespaces, identified
from epaird.control.machine.place import Place, is_in, location_of, move, present
from epaird.control.tasks import whole
from epaird.kernel import link, location, namespace, removal, tun, tunqueue
from epaird.kernel.convergence import Target
from epaird.kernel.errors import KernelError
from epaird.kernel.hardware import hardware_addresses, hardware_addresses_of
from epaird.kernel.link import LinkChange, LinkSettings
from epaird.kernel.namespace import Fingerprint, Identity
from epaird.kernel.netlink import RouteSocket
from epaird.kernel.nscookie import cookie
from epaird.kernel.state import DeviceState
from epaird.kernel.statistics import LinkReader, LinkStatistics
from epaird.kernel.tun import Tap
from epaird.kernel.watch import EVERYTHING, Key, LinkEvent, LinkEventKind, LinkWatch
from epaird.names.macpool import DeviceNumber
from epaird.startup import block_signals

__all__ = ["Host", "Place"]

READ_PAUSE_S: Final = 0.01
"""Pause after link events were read, so that many cost one turn of the loop. With the limit of one read
(MESSAGES_PER_READ of epaird.kernel.watch) it bounds what reading them costs: a tenth of a core."""
_ATTEMPTS: Final = 5
"""Look-ups of a device that is renamed or moved during each of them."""

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


class Host:
    """This machine. All operations raise KernelError."""

    def __init__(self, descriptors: Descriptors | None = None) -> None:
        """``descriptors`` are those of this process."""
        self._descriptors = descriptors or Descriptors()
        self._thread = ThreadPoolExecutor(1, "kernel", block_signals)
        self._home = namespace.identity(None)
        self._reader = LinkReader()
        self._watch: LinkWatch | None = None
        self._resuming: asyncio.TimerHandle | None = None
        """The timer after which link events are read again."""
        self.watches_all_namespaces = True
        """True while :meth:`watch` also reports events of other namespaces."""
        self._owned = OwnedNamespaces()
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
        self._owned.close()
        self._reader.close()
        self._thread.shutdown()

    async def make_namespace(self, name: str, known: Callable[[Fingerprint], None]) -> None:
        """Create a namespace whose lo is up.

        ``known`` is called with its fingerprint before it has its name, in a thread."""
        found: list[Fingerprint] = []

        def both(fingerprint: Fingerprint) -> None:
            found.append(fingerprint)
            known(fingerprint)

        async def make() -> None:
            await self._run(namespace.create, name, both)
            try:
                await self.own_namespace(name, found[0])
            except KernelError:
                with contextlib.suppress(KernelError):
                    await self._run(namespace.remove, name, found[0])
                raise

        await whole(make())

    async def own_namespace(self, name: str, expected: Fingerprint) -> None:
        """Treat a namespace as one that the daemon created.

        Raises KernelError, ESTALE when the name leads to another one than the ``expected``."""

        self._owned.add(name, await self._run(identified, name, expected))

    async def remove_namespace(self, name: str, expected: Fingerprint) -> None:
        """Remove the name of a namespace. Raises KernelError, ESTALE when it leads to another one."""
        self._owned.remove(name)
        await self._run(namespace.remove, name, expected)

    def namespace_identity(self, name: str) -> Identity:
        """Return the identity of the namespace that a name or path leads to now."""
        return namespace.identity(name)

    def leads_to(self, names: Iterable[str]) -> tuple[Identity | None, ...]:
        """Return device and inode of the file that each name or path of a namespace leads to now.

        It is the quickest look-up, and does not check whether the file is a namespace."""
        return tuple(map(namespace.leads_to, names))

    def namespace_fingerprint(self, name: str) -> Fingerprint:
        """Return the fingerprint of the namespace that a name leads to now."""
        with namespace.opened(name) as found:
            return namespace.fingerprint(found)

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

        owned = self._owned.get(netns)
        if netns is None or owned is None:
            tap = await self._create(Opening(device, device, None, make), queues)
            self._numbers[tap] = DeviceNumber(cookies[-1], tap.index)
            return tap
        name = name or device
        tap = await self._create(Opening(device, name, Home(netns, owned.fingerprint), make), queues)
        self._in_place[tap] = Place(name, tap.index, netns, owned.nsid, owned.fingerprint.identity)
        self._numbers[tap] = DeviceNumber(cookies[-1], tap.index)
        return tap

    async def open_tun(self, name: str) -> Tap:
        """Create a TUN device at home, which is down."""
        return await self._create(Opening(name, name, None, tun.open_tun), 1)

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

    def hardware_addresses_now(self, place: Place, besides: int = 0) -> frozenset[str]:
        """Return the same at once, without the device of index ``besides``; it takes some milliseconds."""
        return hardware_addresses(place.nsid, besides)

    def set_sndbuf(self, tap: Tap, size: int) -> None:
        """Limit the bytes delivered to a device and not yet consumed."""
        for fd in tap.fds:
            tunqueue.set_sndbuf(fd, size)

    def set_offload(self, tap: Tap, on: bool) -> Tap:
        """Set every offload of a device, or none; return it with those that are in force then."""
        return tun.set_offload(tap, on)

    def set_carrier(self, tap: Tap, on: bool) -> None:
        """Set the carrier of a device."""
        tunqueue.set_carrier(tap.fds[0], on)

    def check_descriptors(self, device: str, count: int) -> None:
        """Raise KernelError, EMFILE, if too few descriptors are left for a device that takes so many more."""
        self._descriptors.check(device, count)

    def is_up(self, tap: Tap) -> bool:
        """Return IFF_UP; correct only for a device without a sndbuf limit."""
        return tunqueue.is_up(tap.fds[0])

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

        return await self._run(move, tap, self.at_home(tap), name, netns, self._home)

    async def relocate(self, tap: Tap, place: Place, name: str, netns: str | None) -> Place:
        """Move a device from its place to another namespace, where it is down and without addresses.

        None is the daemon's own namespace. Returns the new place."""
        return await self._run(move, tap, place, name, netns, self._home)

    async def configure(self, tap: Tap, place: Place, settings: LinkSettings) -> None:
        """Set the properties, addresses and routes of a device in its place."""
        change = LinkChange(tap.name, link.configuration_requests(place.index, settings))
        await self._configurings.ask(Configuring(location_of(tap, place), change))

    async def set_property(self, tap: Tap, place: Place, key: str, value: Any) -> None:  # noqa: ANN401
        """Set ``mac``, ``mtu``, ``txqueuelen``, ``name`` or ``up`` of a device in its place."""

        def change() -> None:
            with self._at(tap, place):
                _SETTERS[key](place.index, value, device=tap.name)

        await self._run(change)

    async def present(self, devices: Mapping[Tap, Place]) -> dict[Tap, DeviceState]:
        """Return the state of devices. One that is not in its place is left out."""

        return await self._run(present, devices)

    async def converge(self, targets: Sequence[tuple[Tap, Place, Target]]) -> list[KernelError | None]:
        """Give devices what they are to have, those of a namespace together.

        Returns, for each target in order, the first refusal that remained, or None."""
        return await self._run(converge_all, targets)

    def is_in(self, tap: Tap, place: Place) -> bool:
        """Return whether a device is in the namespace of a place, whose nsid is then that of the place."""
        return is_in(tap, place)

    def find(self, tap: Tap, last: Place, *, left: bool = False) -> Place:
        """Return the current place of a device, which was last seen at ``last``.

        ``left`` is True when it has left its index since; it may be there again under another one. Raises
        KernelError, EBADFD when the device is gone."""
        fd = tap.fds[0]
        for _ in range(_ATTEMPTS):
            name = tunqueue.current_name(fd)
            with tunqueue.opened_namespace_of(fd) as found:
                identity = found.identity
                if identity == last.identity and not left:
                    return replace(last, name=name)
                nsid = None if identity == self._home else link.namespace_id(found)
            index = next((each.index for each in self.statistics(nsid).values() if each.name == name), 0)
            # It may have been renamed or moved in between, and another device may have the name.
            if tunqueue.current_name(fd) == name and tunqueue.namespace_of(fd) == identity:
                break
        netns = "" if nsid is None else namespace.name_of(identity)
        return Place(name, index, netns, nsid, identity)

    def statistics(self, nsid: int | None) -> dict[int, LinkStatistics]:
        """Return the kernel's counters and flags of the devices of a namespace, by interface index."""
        return self._reader.read(nsid)

    def watch(self, happened: Callable[[LinkEvent], None], known: Container[Key] = EVERYTHING) -> None:
        """Call ``happened`` for each event of a ``known`` device in any namespace that has an id in this one,
        and of a namespace.

        Events that follow others within READ_PAUSE_S are read together."""
        watch = self._watch = LinkWatch()
        self.watches_all_namespaces = watch.everywhere
        loop = asyncio.get_running_loop()

        def resume() -> None:
            self._resuming = None
            loop.add_reader(watch.fileno(), readable)

        def readable() -> None:
            loop.remove_reader(watch.fileno())
            self._resuming = loop.call_later(READ_PAUSE_S, resume)
            for event in watch.read(known):
                happened(event)

        resume()
        self._owned.report(lambda identity: happened(LinkEvent(LinkEventKind.NAME_GONE, identity=identity)))

    def check_names(self) -> None:
        """Report the loss of each namespace that the daemon created and whose name is gone.

        Events of names report it too, unless the kernel refuses to watch them."""
        self._owned.check()

    def stop_watching(self) -> None:
        """Report no more events."""
        self._owned.report(None)
        if self._resuming is not None:
            self._resuming.cancel()
            self._resuming = None
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()
            self._watch = None

    async def _create(self, opening: Opening, queues: int) -> Tap:
        def checked(name: str) -> Tap:
            # In the thread: each device that is opened there before it counts.
            self._descriptors.check(opening.device, queues)
            return opening.open(name)

        return await self._openings.ask(replace(opening, open=checked))

    async def _remove(self, requests: Sequence[Iterable[Tap]]) -> list[Exception | None]:
        await self._run(removal.remove, [tap for taps in requests for tap in taps])
        return [None] * len(requests)

    def _at(self, tap: Tap, place: Place) -> contextlib.AbstractContextManager[RouteSocket]:
        """Enter the namespace of a device, in the thread that calls the kernel, and yield a socket there.

        Everything in the block runs in that namespace, and requests by ``place.index`` concern this device.
        Raises KernelError before the block, EBADFD when the device is gone, ESTALE when it is elsewhere."""
        return location.at(location_of(tap, place))

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        # A cancellation takes effect before or after the call, never during it: the result would be
        # unknown.
        await asyncio.sleep(0)
        try:
            return await whole(
                asyncio.get_running_loop().run_in_executor(self._thread, lambda: function(*args, **kwargs))
            )
        except OSError as error:  # of the preparation: no descriptors, no memory
            raise KernelError.about("the kernel", error.errno) from error
