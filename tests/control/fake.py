"""A machine without a kernel, for tests of the control plane that need no root.

Real worker processes forward between its devices (:mod:`tests.control.fakeowner`). The test chooses where a
device is, its statistics and its link events. Every operation can be made to fail, and to wait.
"""

# It has the real one's methods, and ignores arguments that make no difference to it.
# ruff: noqa: ARG002

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

from epaird.control.machine.host import Host, Place
from epaird.kernel.convergence import Target
from epaird.kernel.errors import KernelError
from epaird.kernel.link import LinkSettings
from epaird.kernel.namespace import Fingerprint, Identity
from epaird.kernel.state import DeviceState
from epaird.kernel.statistics import LinkStatistics
from epaird.kernel.tun import Tap
from epaird.kernel.watch import EVERYTHING, Key, LinkEvent, LinkEventKind
from epaird.names.macpool import DeviceNumber
from tests.control import addressing
from tests.control.fakeowner import Owner

HOME: Final = Identity(4, 4026531840)
EVERY_OFFLOAD: Final = 0x6F


@dataclass(slots=True, eq=False)
class Link:
    """A device that exists."""

    tap: Tap
    owners: tuple[Owner, ...]
    place: Place
    """Its place; the test may change it."""
    statistics: LinkStatistics
    """Its flags, and the counters that no queue has; the test may change them."""
    settings: LinkSettings | None = None
    """The settings that it was given last."""
    sndbuf: int | None = None
    carrier: bool = True
    """The carrier that it was given; the test chooses the link events."""
    exists: bool = True
    """False once it was deleted; the test may change it."""

    @property
    def owner(self) -> Owner:
        """The owner of a device with one queue."""
        (owner,) = self.owners
        return owner

    @property
    def table(self) -> int | None:
        """The table of its policy routing; None without."""
        return self.settings.policy_table if self.settings is not None else None

    def flap(self, up: bool) -> None:
        """Set it up or down, with what the kernel does then."""
        assert self.settings is not None
        self.settings = addressing.set_up(self.settings, up)
        self.statistics = replace(self.statistics, up=up, lower_up=up)

    def measured(self) -> LinkStatistics:
        """Return the kernel's statistics of it."""
        return replace(
            self.statistics,
            index=self.place.index,
            name=self.place.name,
            tx_packets=self.statistics.tx_packets + sum(owner.taken for owner in self.owners),
            rx_packets=self.statistics.rx_packets + sum(owner.delivered for owner in self.owners),
        )


@dataclass(frozen=True, slots=True)
class Held:
    """An operation that waits in the kernel's thread until it is released."""

    reached: threading.Event
    released: threading.Event

    def wait(self) -> None:
        self.reached.set()
        assert self.released.wait(30), "the operation was not released"


class FakeHost(Host):
    """The machine."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kernel")
        self._home = HOME
        self._happened: Callable[[LinkEvent], None] | None = None
        self.watches_all_namespaces = True
        self.next_index = 5
        """The interface index of the next device."""
        self._next_namespace = 1
        self._failures: dict[str, list[KernelError]] = {}
        self._held: dict[str, Held] = {}
        self.links: dict[str, Link] = {}
        """Devices that exist, by the name they were created with."""
        self.namespaces: dict[str, Identity] = {}
        self.nsids: dict[Identity, int] = {}
        self.foreign_devices: frozenset[str] = frozenset()
        """Names of devices of other programs at home."""
        self.foreign_addresses: frozenset[str] = frozenset()
        """Hardware addresses of devices of other programs, in every namespace."""
        self.missing: tuple[str, ...] = ()
        """Offloads that a new device lacks, in words."""
        self.steps: list[str] = []
        """Operations that were requested."""
        self.failing_step: int | None = None
        """Index in ``steps`` of the operation that fails."""
        self.closed = False
        self.free_descriptors = 1 << 20
        """Descriptors that may still be opened."""
        self.on_sndbuf: Callable[[], None] = lambda: None
        """Called when a bound is set."""

    # Methods for tests.

    def fail(self, operation: str, error: int = errno.EIO, times: int = 1) -> None:
        """Make an operation fail the next ``times`` times."""
        self._failures[operation] = [KernelError(error, f"{operation}: {os.strerror(error)}")] * times

    def hold(self, operation: str) -> Held:
        """Make an operation wait before it is carried out, the next time."""
        held = self._held[operation] = Held(threading.Event(), threading.Event())
        return held

    def report(self, *events: LinkEvent) -> None:
        """Report link events, all in one turn of the loop."""
        assert self._happened is not None, "link events are not watched"
        for event in events:
            self._happened(event)

    def event(
        self, device: str, kind: LinkEventKind = LinkEventKind.NEW, mtu: int | None = None
    ) -> LinkEvent:
        """Return the link event of a device as it is now."""
        link = self.links[device]
        place, statistics = link.place, link.statistics
        return LinkEvent(
            kind,
            place.nsid,
            place.index,
            place.name,
            up=statistics.up,
            lower_up=statistics.lower_up,
            mtu=mtu or statistics.mtu,
        )

    def add_namespace(self, name: str) -> Identity:
        """Create a namespace, in the place of another one of this name."""
        identity = self.namespaces[name] = self._another_namespace()
        return identity

    def _another_namespace(self) -> Identity:
        self._next_namespace += 1
        return Identity(HOME.device, HOME.inode + self._next_namespace)

    def end_namespace(self, name: str) -> None:
        """Let a namespace end, with its devices."""
        identity = self.namespaces.pop(name)
        for link in self.links.values():
            link.exists = link.exists and link.place.identity != identity

    def delete(self, device: str) -> LinkEvent:
        """Delete a device, as ``ip link del`` would; return the link event."""
        event = self.event(device, LinkEventKind.DELETED)
        self.links[device].exists = False
        return event

    def move(self, device: str, netns: str, name: str | None = None) -> LinkEvent:
        """Move a device, as ``ip link set netns`` would; return the link event at its old place."""
        event, link = self.event(device, LinkEventKind.DELETED), self.links[device]
        link.place = self._place_in(netns, name or link.place.name)
        return event

    # Methods of Host.

    def close(self) -> None:
        self.closed = True
        self._thread.shutdown()

    async def make_namespace(self, name: str, known: Callable[[Fingerprint], None]) -> None:
        def make() -> None:
            self._step("make_namespace")
            if name in self.namespaces:
                raise KernelError(errno.EEXIST, f"namespace {name}: exists already")
            identity = self._another_namespace()
            known(Fingerprint(*identity))
            self.namespaces[name] = identity

        await self._run(make)

    async def own_namespace(self, name: str, expected: Fingerprint) -> None:
        def own() -> None:
            self._step("own_namespace")
            assert self._identity(name) == expected.identity

        await self._run(own)

    async def remove_namespace(self, name: str, expected: Fingerprint) -> None:
        def remove() -> None:
            self._step("remove_namespace")
            assert self._identity(name) == expected.identity
            del self.namespaces[name]

        await self._run(remove)

    def namespace_identity(self, name: str) -> Identity:
        self._step("namespace_identity")
        return self._identity(name)

    def leads_to(self, names: Iterable[str]) -> tuple[Identity | None, ...]:
        return tuple(map(self.namespaces.get, names))

    def namespace_fingerprint(self, name: str) -> Fingerprint:
        return Fingerprint(*self.namespace_identity(name))

    async def open_tap(
        self, device: str, *, queues: int, offload: bool, name: str | None = None, netns: str | None = None
    ) -> Tap:
        return await self._run(self._open, device, queues, offload)

    async def open_tun(self, name: str) -> Tap:
        return await self._run(self._open, name, 1, True)

    def at_home(self, tap: Tap) -> Place:
        return self.links[tap.name].place

    def has_device(self, name: str) -> bool:
        homes = (link.place for link in self.links.values() if link.exists and link.place.nsid is None)
        return name in self.foreign_devices or any(place.name == name for place in homes)

    def number_of(self, tap: Tap) -> DeviceNumber:
        return DeviceNumber(HOME.inode, tap.index)

    async def hardware_addresses(self, place: Place) -> frozenset[str]:
        return self.hardware_addresses_now(place)

    def hardware_addresses_now(self, place: Place, besides: int = 0) -> frozenset[str]:
        self._step("hardware_addresses")
        here = (
            link.statistics.mac
            for link in self.links.values()
            if link.place.nsid == place.nsid and link.place.index != besides
        )
        return self.foreign_addresses.union(here)

    def check_descriptors(self, device: str, count: int) -> None:
        if count > self.free_descriptors:
            raise KernelError(errno.EMFILE, f"{device}: too many open files")

    def set_sndbuf(self, tap: Tap, size: int) -> None:
        self._step("set_sndbuf")
        self.on_sndbuf()
        self.links[tap.name].sndbuf = size

    def set_offload(self, tap: Tap, on: bool) -> Tap:
        self._step("set_offload")
        offloads, missing = (EVERY_OFFLOAD, self.missing) if on else (0, ())
        self.links[tap.name].tap = tap = replace(tap, offloads=offloads, missing=missing)
        return tap

    def set_carrier(self, tap: Tap, on: bool) -> None:
        self._step("set_carrier")
        self.links[tap.name].carrier = on

    def is_up(self, tap: Tap) -> bool:
        self._step("is_up")
        return self.links[tap.name].statistics.up

    async def close_taps(self, taps: Iterable[Tap]) -> None:
        def close() -> None:
            for tap in taps:
                link = self.links.pop(tap.name)
                tap.close()
                for owner in link.owners:
                    owner.end.close()
            self._step("close_taps")

        await self._run(close)

    async def place(self, tap: Tap, name: str, netns: str | None) -> Place:
        def move() -> Place:
            self._step("place")
            link = self.links[tap.name]
            if netns is None:
                link.place = replace(link.place, name=name)
            else:
                link.place = self._place_in(netns, name)
            return link.place

        return await self._run(move)

    async def relocate(self, tap: Tap, place: Place, name: str, netns: str | None) -> Place:
        def move() -> Place:
            self._step("relocate")
            link = self.links[tap.name]
            assert place == link.place
            if netns is None:
                link.place = Place(name, self._new_index(), "", None, HOME)
            else:
                link.place = self._place_in(netns, name)
            link.statistics = replace(link.statistics, up=False, lower_up=False)
            return link.place

        return await self._run(move)

    async def configure(self, tap: Tap, place: Place, settings: LinkSettings) -> None:
        await self._run(self._configure, "configure", tap, place, settings)

    async def set_property(self, tap: Tap, place: Place, key: str, value: Any) -> None:  # noqa: ANN401
        def change() -> None:
            self._step(f"set_{key}")
            link = self.links[tap.name]
            if key == "name":
                link.place = replace(link.place, name=value)
            elif link.settings is not None:
                link.settings = replace(link.settings, **{key: value})
                if key == "up":
                    link.flap(value)
            if key in ("mtu", "mac", "up"):
                link.statistics = replace(link.statistics, **{key: value})

        await self._run(change)

    async def present(self, devices: Mapping[Tap, Place]) -> dict[Tap, DeviceState]:
        def look() -> dict[Tap, DeviceState]:
            self._step("present")
            found: dict[Tap, DeviceState] = {}
            for tap, place in devices.items():
                link = self.links[tap.name]
                if link.place.identity == place.identity and link.settings is not None:
                    found[tap] = addressing.state(link.place.name, link.settings)
            return found

        return await self._run(look)

    async def converge(self, targets: Sequence[tuple[Tap, Place, Target]]) -> list[KernelError | None]:
        def change() -> list[KernelError | None]:
            try:
                self._step("converge")
            except KernelError as error:
                return [error for _ in targets]
            for tap, _, target in targets:
                link = self.links[tap.name]
                if link.settings is not None:
                    link.settings = addressing.converged(link.settings, target)
            return [None for _ in targets]

        return await self._run(change)

    def is_in(self, tap: Tap, place: Place) -> bool:
        link = self.links[tap.name]
        return link.exists and link.place.identity == place.identity

    def find(self, tap: Tap, last: Place, *, left: bool = False) -> Place:
        self._step("find")
        link = self.links[tap.name]
        if not link.exists:
            raise KernelError.about("the device", errno.EBADFD)
        if link.place.identity == last.identity and not left:
            return replace(last, name=link.place.name)
        return link.place

    def statistics(self, nsid: int | None) -> dict[int, LinkStatistics]:
        self._step("statistics")
        return {
            link.place.index: link.measured()
            for link in self.links.values()
            if link.exists and link.place.nsid == nsid
        }

    def watch(self, happened: Callable[[LinkEvent], None], known: Container[Key] = EVERYTHING) -> None:
        self._step("watch")
        self._happened = happened

    def check_names(self) -> None:
        """Do nothing: the test reports events."""

    def stop_watching(self) -> None:
        self._step("stop_watching")
        self._happened = None

    def _step(self, operation: str) -> None:
        """Record an operation; wait or fail if a test wants it."""
        self.steps.append(operation)
        held = self._held.pop(operation, None)
        if held is not None:
            held.wait()
        if len(self.steps) - 1 == self.failing_step:
            raise KernelError(errno.EIO, f"{operation}: {os.strerror(errno.EIO)}")
        failures = self._failures.get(operation)
        if failures:
            raise failures.pop()

    def _open(self, name: str, queues: int, offload: bool) -> Tap:
        self._step("open_tap")
        if name in self.links:
            raise KernelError(errno.EEXIST, f"{name}: a device of this name exists already")
        owners = tuple(Owner() for _ in range(queues))
        tap = Tap(
            name=name,
            index=self._new_index(),
            fds=tuple(owner.fileno() for owner in owners),
            offloads=EVERY_OFFLOAD if offload else 0,
            missing=self.missing if offload else (),
            _devices=tuple(_Device(name, owner) for owner in owners),
        )
        statistics = LinkStatistics(tap.index, name, False, False, 1500, "", 0, 0, 0, 0, 0, 0)
        self.links[name] = Link(tap, owners, Place(name, tap.index, "", None, HOME), statistics)
        return tap

    def _configure(self, operation: str, tap: Tap, place: Place, settings: LinkSettings) -> None:
        self._step(operation)
        link = self.links[tap.name]
        assert place == link.place
        link.settings = settings
        link.statistics = replace(
            link.statistics, mtu=settings.mtu, mac=settings.mac or "", up=settings.up, lower_up=settings.up
        )

    def _new_index(self) -> int:
        self.next_index += 1
        return self.next_index - 1

    def _identity(self, name: str) -> Identity:
        if name not in self.namespaces:
            raise KernelError(errno.ENOENT, f"namespace {name}: does not exist")
        return self.namespaces[name]

    def _place_in(self, netns: str, name: str) -> Place:
        identity = self._identity(netns)
        nsid = self.nsids.setdefault(identity, len(self.nsids))
        return Place(name, self._new_index(), netns, nsid, identity)


@dataclass(frozen=True, slots=True)
class _Device:
    """A queue of a device, with the methods of python-pytun's."""

    name: str
    owner: Owner

    def fileno(self) -> int:
        return self.owner.fileno()

    def close(self) -> None:
        self.owner.close()
