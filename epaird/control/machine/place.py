"""The places of devices: where a device is, and how it comes to another place.

These functions run in the thread that calls the kernel.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from epaird.kernel import link, location, namespace, state, tunqueue
from epaird.kernel.errors import KernelError
from epaird.kernel.location import Location
from epaird.kernel.namespace import Identity
from epaird.kernel.netlink import RouteSocket
from epaird.kernel.state import DeviceState
from epaird.kernel.tun import Tap


@dataclass(frozen=True, slots=True)
class Place:
    """The location of a device."""

    name: str
    """Name of the device in its namespace."""
    index: int
    """Interface index of the device in its namespace."""
    netns: str
    """Name or path that led to the namespace, for people; empty for the daemon's own."""
    nsid: int | None
    """Id of the namespace in the daemon's own; None for the daemon's own."""
    identity: Identity
    """Device and inode of the namespace."""


def location_of(tap: Tap, place: Place) -> Location:
    """Return a device and its place as the kernel's part of the program has them."""
    return Location(tap.name, -1 if tap.closed else tap.fds[0], place.index, place.identity)


def move(tap: Tap, place: Place, name: str, netns: str | None, home: Identity) -> Place:
    """Move a device from its place to another namespace, under ``name``, and return its new place.

    The name of the namespace, None for the daemon's own, is resolved once. ``home`` is the identity of the
    daemon's own. Raises KernelError; then the device is where it was."""
    with namespace.opened(netns or namespace.HOME) as target:
        index = link.place(location_of(tap, place), name, target)
        if netns is None:
            return Place(name, index, "", None, home)
        nsid = None if target.identity == home else link.namespace_id(target)
        return Place(name, index, netns, nsid, target.identity)


def present(devices: Mapping[Tap, Place]) -> dict[Tap, DeviceState]:
    """Return the state of devices. One that is not in its place is left out."""
    found: dict[Tap, DeviceState] = {}
    for identity in dict.fromkeys(place.identity for place in devices.values()):
        taps = [tap for tap, place in devices.items() if place.identity == identity]
        locations = [location_of(tap, devices[tap]) for tap in taps]
        with contextlib.suppress(KernelError), location.at_all(locations) as (route, elsewhere):
            by_index = state.present(route, frozenset(devices[tap].index for tap in taps))
            for tap, why in zip(taps, elsewhere, strict=True):
                if why is None and devices[tap].index in by_index:
                    found[tap] = by_index[devices[tap].index]
    return found


@contextlib.contextmanager
def left_namespace(place: Place) -> Iterator[RouteSocket]:
    """Enter the namespace of a place that its device has left, by its name, and yield a socket there.

    Raises KernelError, ESTALE when the name leads to another namespace now."""
    with namespace.opened(place.netns or namespace.HOME) as found:
        if found.identity != place.identity:
            raise KernelError(errno.ESTALE, f"namespace {place.netns}: was replaced by another one")
        with namespace.inside(found), contextlib.closing(RouteSocket()) as route:
            yield route


def is_in(tap: Tap, place: Place) -> bool:
    """Return whether a device exists and is in the namespace of a place.

    Raises KernelError when descriptors or memory are lacking."""
    try:
        return not tap.closed and tunqueue.namespace_of(tap.fds[0]) == place.identity
    except KernelError as error:
        if error.lacking:
            raise
        return False
