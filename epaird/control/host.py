"""The machine, as the control plane asks things of it.

``epaird.kernel`` blocks: some calls enter another namespace for a moment, and netlink by pyroute2 runs an
event loop of its own.  So those run in one thread kept for them, one after the other.  ioctls on a device's
descriptor and the dump of statistics take microseconds to a few milliseconds, and are asked directly.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import ParamSpec, TypeVar

from epaird.kernel import link, namespace, tun
from epaird.kernel.link import LinkSettings
from epaird.kernel.namespace import Identity
from epaird.kernel.statistics import LinkReader, LinkStatistics
from epaird.kernel.tun import Tap
from epaird.kernel.watch import LinkEvent, LinkWatch

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


class Host:
    """This machine.  Everything raises KernelError."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kernel")
        self._home = namespace.identity(None)
        self._reader = LinkReader()
        self._watch: LinkWatch | None = None

    def close(self) -> None:
        """Stop watching, and end the thread."""
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()
        self._reader.close()
        self._thread.shutdown()

    async def make_namespace(self, name: str) -> Identity:
        """Make a namespace, with lo up."""

        def make() -> Identity:
            namespace.create(name)
            return namespace.identity(name)

        return await self._run(make)

    async def remove_namespace(self, name: str) -> None:
        """Take a namespace's name away."""
        await self._run(namespace.remove, name)

    def namespace_identity(self, name: str) -> Identity:
        """Which namespace bears this name."""
        return namespace.identity(name)

    async def open_tap(self, name: str, *, queues: int, offload: bool) -> Tap:
        """Make a TAP device at home; it is down."""
        return await self._run(tun.open_tap, name, queues=queues, offload=offload)

    def at_home(self, tap: Tap) -> Place:
        """Where a device that was just made is."""
        return Place(tap.name, tap.index, "", None, self._home)

    def set_sndbuf(self, tap: Tap, size: int) -> None:
        """Bound the bytes delivered to a device and not yet consumed."""
        for fd in tap.fds:
            tun.set_sndbuf(fd, size)

    async def close_taps(self, taps: Iterable[Tap]) -> None:
        """Destroy devices."""

        def close() -> None:
            for tap in taps:
                tap.close()

        await self._run(close)

    async def place(self, tap: Tap, name: str, netns: str | None) -> Place:
        """Move a new device to its namespace, where it is called ``name``."""

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
        await self._run(link.configure, place.index, settings, netns=place.netns or None, device=tap.name)

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
        return Place(name, index, namespace.name_of(identity), nsid, identity)

    def statistics(self, nsid: int | None) -> dict[int, LinkStatistics]:
        """The kernel's counters and flags of the devices of a namespace, by interface index."""
        return self._reader.read(nsid)

    def watch(self, happened: Callable[[LinkEvent], None]) -> None:
        """Call back for everything that happens to a device in any namespace with an id here."""
        watch = self._watch = LinkWatch()

        def readable() -> None:
            for event in watch.read():
                happened(event)

        asyncio.get_running_loop().add_reader(watch.fileno(), readable)

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: function(*args, **kwargs)
        )
