"""Operations on a device by netlink: place it in a namespace, configure it, delete it.

Functions take the interface index in the open namespace ``netns`` (None: the calling thread's own), and
``device``, the device's name in messages. They block. Each opens its socket inside the namespace and closes
it again: an open socket would keep the namespace alive. The caller has verified that the index is that of the
wanted device (:mod:`epaird.kernel.location`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from epaird.kernel import abi, location, requests
from epaird.kernel.errors import KernelError
from epaird.kernel.location import Location
from epaird.kernel.namespace import Namespace, inside
from epaird.kernel.netlink import INT, RouteSocket, attribute, attributes
from epaird.kernel.printable import raw
from epaird.kernel.requests import Address, NetlinkRequest, Route

__all__ = ["Address", "LinkChange", "LinkSettings", "Route"]

_RTGENMSG: Final = bytes(4)
"""struct rtgenmsg: the family, none, aligned to four bytes."""


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """The wanted settings of a device."""

    mtu: int
    """Maximum payload of a frame in bytes."""
    txqueuelen: int
    """Capacity of the device's ring in frames."""
    mac: str | None = None
    """MAC address, ``02:5d:11:22:33:0a``; None keeps the present one."""
    up: bool = True
    """IFF_UP."""
    addresses: tuple[Address, ...] = ()
    """Addresses, in the order in which they are added."""
    routes: tuple[Route, ...] = ()
    """Routes through the device, which the kernel keeps only while the device is up."""
    policy_table: int | None = None
    """The routing table, one of :data:`epaird.kernel.policy.TABLES`, of a loopback that local traffic for
    its own addresses passes; None: the device has no policy routing."""


@dataclass(frozen=True, slots=True)
class LinkChange:
    """Requests to change one device."""

    device: str
    """The device's name in messages."""
    requests: tuple[NetlinkRequest, ...]
    """The requests, in the order of their execution."""


def place(device: Location, name: str, target: Namespace | None) -> int:
    """Move a device to the namespace ``target``, rename it to ``name``, and return its index there.

    With None, or the namespace where it is, the device is only renamed. A device that moves arrives down and
    without addresses. The move takes about 16 ms, during which the kernel changes no other device. Raises
    KernelError as :func:`epaird.kernel.location.at`, and EEXIST when the name is taken in the target
    namespace; the device then has not moved.
    """
    with location.at(device) as route:
        if target is not None and target.identity == device.namespace:
            target = None
        where = "" if target is None else f" in namespace {target.label}"
        subject = f"cannot be {name}{where}"
        if (taken := _index_of(name, target)) is not None:
            if target is None and taken == device.index:
                return taken
            # The kernel would move the device first and then fail to rename it.
            cause = "a device of this name exists already"
            raise KernelError(errno.EEXIST, f"{device.device}: {subject}: {cause}")
        fd = target.fd if target is not None else None
        apply(route, device.device, requests.name(device.index, name, fd, subject=subject))
    if target is None:
        return device.index
    with inside(target):
        return location.index_here(device.fd, target.identity)


def configuration_requests(index: int, settings: LinkSettings) -> tuple[NetlinkRequest, ...]:
    """Return the requests that configure a new device: properties, addresses, up, routes, in this order.

    Routes are left out when the device is to be down, since the kernel drops the routes of such a device.
    """
    result = [requests.no_qdisc(index)]
    if settings.mac is not None:
        result.append(requests.mac(index, settings.mac))
    result += [requests.mtu(index, settings.mtu), requests.txqueuelen(index, settings.txqueuelen)]
    result += [requests.add_address(index, address) for address in settings.addresses]
    if settings.up:
        result.append(requests.up(index, True))
        result += [requests.add_route(index, route) for route in settings.routes]
    return tuple(result)


def configure(
    index: int, settings: LinkSettings, *, netns: Namespace | None = None, device: str | None = None
) -> None:
    """Configure a new device. Raises KernelError for the first setting that the kernel refused."""
    _execute(netns, device or f"device {index}", *configuration_requests(index, settings))


def change_all(changes: Sequence[LinkChange], netns: Namespace | None) -> list[KernelError | None]:
    """Change devices of one namespace and return, for each, its first refused request, or None.

    Requests that follow a refused one are executed nevertheless. Raises KernelError when the namespace
    cannot be entered or the socket fails.
    """
    with inside(netns), contextlib.closing(RouteSocket()) as route:
        return execute(route, changes)


def execute(route: RouteSocket, changes: Sequence[LinkChange]) -> list[KernelError | None]:
    """Change devices of the socket's namespace, as :func:`change_all`."""
    requested = [(change, request) for change in changes for request in change.requests]
    numbers = route.execute([(request.kind, request.flags, request.payload) for _, request in requested])
    refused: dict[int, KernelError] = {}
    for (change, request), number in zip(requested, numbers, strict=True):
        if number and not request.optional and id(change) not in refused:
            refused[id(change)] = request.refusal(change.device, number)
    return [refused.get(id(change)) for change in changes]


def apply(route: RouteSocket, device: str, *wanted: NetlinkRequest) -> None:
    """Execute requests about one device of the socket's namespace. Raises KernelError for the first refusal.

    Requests that follow a refused one are executed nevertheless."""
    for refusal in execute(route, [LinkChange(device, wanted)]):
        if refusal is not None:
            raise refusal


def set_up(index: int, up: bool, *, netns: Namespace | None = None, device: str | None = None) -> None:
    """Bring a device up or down. Raises KernelError."""
    _execute(netns, device or f"device {index}", requests.up(index, up))


def set_mtu(index: int, mtu: int, *, netns: Namespace | None = None, device: str | None = None) -> None:
    """Set the MTU in bytes. Raises KernelError."""
    _execute(netns, device or f"device {index}", requests.mtu(index, mtu))


def set_txqueuelen(
    index: int, frames: int, *, netns: Namespace | None = None, device: str | None = None
) -> None:
    """Set the ring's size; shrinking it drops the frames that no longer fit. Raises KernelError."""
    _execute(netns, device or f"device {index}", requests.txqueuelen(index, frames))


def set_mac(index: int, mac: str, *, netns: Namespace | None = None, device: str | None = None) -> None:
    """Set the MAC address. Raises KernelError."""
    _execute(netns, device or f"device {index}", requests.mac(index, mac))


def set_name(index: int, name: str, *, netns: Namespace | None = None, device: str | None = None) -> None:
    """Rename a device in its namespace. Raises KernelError, EEXIST when the name is taken."""
    _execute(netns, device or f"device {index}", requests.name(index, name))


def add_address(
    index: int, address: Address, *, netns: Namespace | None = None, device: str | None = None
) -> None:
    """Add an address. Raises KernelError, EEXIST when the device has it already."""
    _execute(netns, device or f"device {index}", requests.add_address(index, address))


def remove_address(
    index: int, address: Address, *, netns: Namespace | None = None, device: str | None = None
) -> None:
    """Remove an address. Raises KernelError, EADDRNOTAVAIL when the device does not have it."""
    _execute(netns, device or f"device {index}", requests.remove_address(index, address))


def add_route(index: int, route: Route, *, netns: Namespace | None = None, device: str | None = None) -> None:
    """Add a route through a device that is up. Raises KernelError, EEXIST when the route exists already."""
    _execute(netns, device or f"device {index}", requests.add_route(index, route))


def remove_route(
    index: int, route: Route, *, netns: Namespace | None = None, device: str | None = None
) -> None:
    """Remove a route through a device. Raises KernelError, ESRCH when there is no such route."""
    _execute(netns, device or f"device {index}", requests.remove_route(index, route))


def delete(index: int, *, netns: Namespace | None = None, device: str | None = None) -> None:
    """Delete a device even if processes hold it open. Raises KernelError, ENODEV when it is gone."""
    _execute(netns, device or f"device {index}", requests.delete(index))


def delete_group(group: int, *, netns: Namespace | None = None) -> None:
    """Delete every device of a group in a namespace, by one request: 2000 in 0.3 s instead of 37 s.

    ``group`` must not be 0, the group of every device that was never put into another. Raises KernelError,
    ENODEV when the group has no devices.
    """
    _execute(netns, f"group {group}", requests.delete_group(group))


def exists(name: str) -> bool:
    """Return whether the caller's namespace has a device of this name."""
    try:
        return _index_of(name, None) is not None
    except ValueError:  # a NUL, or a surrogate that stands for no byte
        return False


def namespace_id(namespace: Namespace) -> int:
    """Return the id of a namespace in the caller's namespace, after assigning one if there is none.

    Link events and statistics name the namespace by this id, which
    lasts as long as the namespace. Raises KernelError.
    """
    target = _RTGENMSG + attribute(abi.NETNSA_FD, INT.pack(namespace.fd))
    any_id = attribute(abi.NETNSA_NSID, INT.pack(abi.NETNSA_NSID_NOT_ASSIGNED))
    with contextlib.closing(RouteSocket()) as route:
        try:
            for _ in route.request(abi.RTM_NEWNSID, abi.NLM_F_ACK, target + any_id):
                pass
        except KernelError as error:
            if error.errno != errno.EEXIST:
                raise
        nsid = abi.NETNSA_NSID_NOT_ASSIGNED
        for _, _, start, end in route.request(abi.RTM_GETNSID, 0, target):
            for kind, first, _ in attributes(route.buffer, start + len(_RTGENMSG), end):
                if kind == abi.NETNSA_NSID:
                    (nsid,) = INT.unpack_from(route.buffer, first)
    if nsid == abi.NETNSA_NSID_NOT_ASSIGNED:
        raise KernelError(errno.ENOENT, "the namespace has no id here")
    return nsid


def _execute(netns: Namespace | None, device: str, *wanted: NetlinkRequest) -> None:
    for refusal in change_all([LinkChange(device, wanted)], netns):
        if refusal is not None:
            raise refusal


def _index_of(name: str, netns: Namespace | None) -> int | None:
    """Return the interface index of a name in a namespace, or None when there is no such device."""
    with inside(netns):
        try:
            return socket.if_nametoindex(os.fsdecode(raw(name)))
        except OSError:
            return None
