"""The machine, as the control plane asks things of it.

``epaird.kernel`` blocks, and some calls enter another namespace for a moment.  So those run in one thread
kept for them, one after the other, and those of many devices together.  ioctls on a device's descriptor and
the dump of statistics take microseconds to a few milliseconds, and are asked directly.

A device is made at home and moved to its namespace, which takes the kernel 16 ms, except in namespaces that
were made here: in those it is made in its place.  Then its descriptors keep the namespace alive, so the loss
of the namespace's name is watched for, and told as the loss of the namespace.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import ParamSpec, TypeVar

from epaird.control.machine.batches import Batches
from epaird.control.machine.bulk import Configuring, Home, Opening, configure_all, open_all
from epaird.control.tasks import whole
from epaird.kernel import link, namespace, policy, removal, tun
from epaird.kernel.addressing import DeviceAddressing, addressing
from epaird.kernel.errors import KernelError
from epaird.kernel.link import LinkChange, LinkSettings
from epaird.kernel.namespace import Identity
from epaird.kernel.netnswatch import NameWatch
from epaird.kernel.reconfigure import reconfigure
from epaird.kernel.statistics import LinkReader, LinkStatistics
from epaird.kernel.tun import Tap
from epaird.kernel.watch import LinkEvent, LinkEventKind, LinkWatch

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a device is."""

    name: str
    """Its name there."""
    index: int
    """Its interface index there."""
    netns: str
    """The namespace, by name or path; empty for the daemon's own."""
    nsid: int | None
    """The namespace's id in ours; None for our own."""
    identity: Identity
    """What tells the namespace from others."""


@dataclass(frozen=True, slots=True)
class _Owned:
    """A namespace that was made here."""

    nsid: int
    identity: Identity


class Host:
    """This machine.  Everything raises KernelError."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kernel")
        self._home = namespace.identity(None)
        self._reader = LinkReader()
        self._watch: LinkWatch | None = None
        self.hears_everything = True
        """What happens in other namespaces is told while watching."""
        self._names: NameWatch | None = None
        self._happened: Callable[[LinkEvent], None] | None = None
        self._owned: dict[str, _Owned] = {}
        """By path."""
        self._in_place: dict[Tap, Place] = {}
        """Devices that were made where they are to be."""
        self._openings: Batches[Opening, Tap] = Batches(lambda all_: self._run(open_all, all_))
        self._configurings: Batches[Configuring, None] = Batches(lambda all_: self._run(configure_all, all_))
        self._removals: Batches[Iterable[Tap], None] = Batches(self._remove, at_once=1 << 16)

    @property
    def home(self) -> Identity:
        """The daemon's own namespace."""
        return self._home

    def close(self) -> None:
        """Stop watching, and end the thread."""
        self.stop_watching()
        self._watch_no_names()
        self._reader.close()
        self._thread.shutdown()

    async def make_namespace(self, name: str, known: Callable[[Identity], None]) -> None:
        """Make a namespace, with lo up; ``known`` is told which it is before it has its name, in a thread."""

        async def make() -> None:
            await self._run(namespace.create, name, known)
            try:
                await self.own_namespace(name)
            except KernelError:
                await self._run(namespace.remove, name)
                raise

        await whole(make())

    async def own_namespace(self, name: str) -> None:
        """Take a namespace for one that was made here."""

        def look() -> _Owned:
            with namespace.opened(name) as fd:
                return _Owned(link.namespace_id(fd), namespace.identity(name))

        self._owned[namespace.path_of(name)] = await self._run(look)
        if self._names is None:
            self._names = NameWatch()
            asyncio.get_running_loop().add_reader(self._names.fileno(), self._name_gone)

    async def remove_namespace(self, name: str) -> None:
        """Take a namespace's name away."""
        self._disown(namespace.path_of(name))
        await self._run(namespace.remove, name)

    def namespace_identity(self, name: str) -> Identity:
        """Which namespace bears this name."""
        return namespace.identity(name)

    async def open_tap(
        self, device: str, *, queues: int, offload: bool, name: str | None = None, netns: str | None = None
    ) -> Tap:
        """Make a TAP device, which is down: called ``name`` in ``netns``, if that is a namespace made here,
        or else as it is itself, at home."""

        def make(name: str) -> Tap:
            return tun.open_tap(name, queues=queues, offload=offload)

        owned = self._owned.get(namespace.path_of(netns)) if netns is not None else None
        if netns is None or owned is None:
            return await self._openings.ask(Opening(device, device, None, make))
        name = name or device
        tap = await self._openings.ask(Opening(device, name, Home(netns, owned.identity), make))
        self._in_place[tap] = Place(name, tap.index, netns, owned.nsid, owned.identity)
        return tap

    async def open_tun(self, name: str) -> Tap:
        """Make a TUN device at home, which is down."""
        return await self._openings.ask(Opening(name, name, None, tun.open_tun))

    def at_home(self, tap: Tap) -> Place:
        """Where a device that was just made is."""
        return self._in_place.get(tap) or Place(tap.name, tap.index, "", None, self._home)

    def set_sndbuf(self, tap: Tap, size: int) -> None:
        """Bound the bytes delivered to a device and not yet consumed."""
        for fd in tap.fds:
            tun.set_sndbuf(fd, size)

    def set_carrier(self, tap: Tap, on: bool) -> None:
        """Plug a device's cable in or out."""
        tun.set_carrier(tap.fds[0], on)

    def is_up(self, tap: Tap) -> bool:
        """IFF_UP; right only of a device without a bound on what is delivered."""
        return tun.is_up(tap.fds[0])

    async def close_taps(self, taps: Iterable[Tap]) -> None:
        """Destroy devices."""
        taps = tuple(taps)
        for tap in taps:
            self._in_place.pop(tap, None)
        await self._removals.ask(taps)

    async def place(self, tap: Tap, name: str, netns: str | None) -> Place:
        """Move a new device to its namespace, where it is called ``name``, if it is not there."""
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
        """Give a device in its place its properties, addresses and routes."""
        change = LinkChange(tap.name, link.configuration_requests(place.index, settings))
        await self._configurings.ask(Configuring(place.netns or None, change))

    async def reconfigure(self, tap: Tap, place: Place, before: LinkSettings, after: LinkSettings) -> None:
        """Change what is different of a device in its place."""
        await self._run(reconfigure, place.index, before, after, netns=place.netns or None, device=tap.name)

    async def rename(self, tap: Tap, place: Place, name: str) -> None:
        """Give a device another name where it is."""
        await self._run(link.set_name, place.index, name, netns=place.netns or None, device=tap.name)

    async def present(self, namespaces: Iterable[str]) -> dict[str, dict[int, DeviceAddressing]]:
        """Addresses and routes of the devices of these namespaces, empty being home, by index.

        A namespace that is gone has none."""

        def look() -> dict[str, dict[int, DeviceAddressing]]:
            found = {}
            for netns in namespaces:
                with contextlib.suppress(KernelError):
                    found[netns] = addressing(netns or None)
            return found

        return await self._run(look)

    async def route_through(self, place: Place, table: int, addresses: tuple[str, ...]) -> None:
        """Have packets to these addresses' networks pass a loopback."""
        await self._run(policy.install, place.name, place.index, table, addresses, netns=place.netns or None)

    async def route_past(self, place: Place, table: int) -> None:
        """Undo that."""
        await self._run(policy.remove, table, netns=place.netns or None)

    def find(self, tap: Tap, last: Place) -> Place:
        """Where a device is now; EBADFD when it is gone.  ``last`` is where it was seen last."""
        fd = tap.fds[0]
        name = tun.current_name(fd)
        if tun.namespace_of(fd) == last.identity:
            return replace(last, name=name)
        with tun.opened_namespace_of(fd) as netns:
            status = os.fstat(netns)
            identity = Identity(status.st_dev, status.st_ino)
            nsid = None if identity == self._home else link.namespace_id(netns)
        index = next((each.index for each in self.statistics(nsid).values() if each.name == name), 0)
        where = "" if nsid is None else namespace.name_of(identity)
        return Place(name, index, where, nsid, identity)

    def statistics(self, nsid: int | None) -> dict[int, LinkStatistics]:
        """The kernel's counters and flags of the devices of a namespace, by interface index."""
        return self._reader.read(nsid)

    def watch(self, happened: Callable[[LinkEvent], None]) -> None:
        """Call back for everything that happens to a device in any namespace with an id here."""
        watch = self._watch = LinkWatch()
        self.hears_everything = watch.everywhere
        self._happened = happened

        def readable() -> None:
            for event in watch.read():
                happened(event)

        asyncio.get_running_loop().add_reader(watch.fileno(), readable)
        self._see_to_names()

    def stop_watching(self) -> None:
        """Call back no more."""
        self._happened = None
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()
            self._watch = None

    def _name_gone(self) -> None:
        """Some namespace has lost its name: one of ours?"""
        if self._names is not None:
            self._names.drain()
        self._see_to_names()

    def _see_to_names(self) -> None:
        for path, owned in tuple(self._owned.items()):
            if self._happened is not None and not _leads_to(path, owned.identity):
                self._disown(path)
                self._happened(LinkEvent(LinkEventKind.NAMESPACE_GONE, nsid=owned.nsid))

    def _disown(self, path: str) -> None:
        """One that was made here is no more; with the last of them, there are no names to watch."""
        self._owned.pop(path, None)
        if not self._owned:
            self._watch_no_names()

    def _watch_no_names(self) -> None:
        if self._names is not None:
            asyncio.get_running_loop().remove_reader(self._names.fileno())
            self._names.close()
            self._names = None

    async def _remove(self, asked: Sequence[Iterable[Tap]]) -> list[Exception | None]:
        await self._run(removal.remove, [tap for taps in asked for tap in taps])
        return [None] * len(asked)

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        # Cancelled before or behind what the thread does, never meanwhile: nobody would know what it made.
        await asyncio.sleep(0)
        return await whole(
            asyncio.get_running_loop().run_in_executor(self._thread, lambda: function(*args, **kwargs))
        )


def _leads_to(path: str, identity: Identity) -> bool:
    try:
        return namespace.identity(path) == identity
    except KernelError:
        return False
