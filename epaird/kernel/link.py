"""What netlink can do to a device: place it in a namespace, configure it, delete it.

Functions take the interface index in the namespace ``netns`` (None: the caller's own), and ``device``,
the name that messages call it by.  They block.  Each opens its socket inside the namespace and closes it
again: an open one would keep the namespace alive.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from epaird.kernel import abi, requests
from epaird.kernel.errors import KernelError
from epaird.kernel.namespace import identity, inside, opened
from epaird.kernel.netlink import INT, RouteSocket, attribute, attributes
from epaird.kernel.requests import Request, Route

__all__ = ["Change", "LinkSettings", "Route"]

_RTGENMSG: Final = bytes(4)
"""struct rtgenmsg: the family, none, aligned to four bytes."""


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """How a device shall be."""

    mtu: int
    """Bytes of payload a frame may carry."""
    txqueuelen: int
    """Frames the device's ring holds."""
    mac: str | None = None
    """``02:5d:11:22:33:0a``; None: as it is."""
    up: bool = True
    """IFF_UP."""
    addresses: tuple[str, ...] = ()
    """Addresses with their prefix length, ``10.0.0.1/24``."""
    routes: tuple[Route, ...] = ()
    """Routes through it, which the kernel holds only while it is up."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is asked for a device, in order."""

    device: str
    """What messages call it by."""
    requests: tuple[Request, ...]


def place(index: int, name: str, netns: str | None, *, device: str | None = None) -> int:
    """Move a device of this namespace to ``netns``, where it is called ``name``; its index there.

    At home (None) it is renamed only.  A device that moves arrives down and without addresses; it takes
    some 16 ms, in which the kernel changes no other device.  Raises KernelError, EEXIST when the name is
    taken there; the device is then where it was.
    """
    label = device or name
    if netns is not None and identity(netns) == identity(None):
        netns = None
    if netns is None and _index_of(name, None) == index:
        return index
    where = "" if netns is None else f" in namespace {netns}"
    thing = f"cannot be {name}{where}"
    with contextlib.nullcontext() if netns is None else opened(netns) as fd:
        # The kernel would move the device first and then fail to rename it.
        if _index_of(name, netns) is not None:
            words = "a device of this name exists already"
            raise KernelError(errno.EEXIST, f"{label}: {thing}: {words}")
        _ask(None, label, requests.name(index, name, fd, thing=thing))
    there = _index_of(name, netns)
    if there is None:
        raise KernelError(errno.ENODEV, f"{label}: the device is gone")
    return there


def configured(index: int, settings: LinkSettings) -> tuple[Request, ...]:
    """What makes a new device as ``settings`` say: its properties, addresses, up, routes, in this order.

    Routes are left out while the device is to be down, since the kernel drops them with it.
    """
    asked = [requests.no_qdisc(index)]
    if settings.mac is not None:
        asked.append(requests.mac(index, settings.mac))
    asked += [requests.mtu(index, settings.mtu), requests.txqueuelen(index, settings.txqueuelen)]
    asked += [requests.add_address(index, address) for address in settings.addresses]
    if settings.up:
        asked.append(requests.up(index, True))
        asked += [requests.add_route(index, route) for route in settings.routes]
    return tuple(asked)


def configure(
    index: int, settings: LinkSettings, *, netns: str | None = None, device: str | None = None
) -> None:
    """Make a new device as ``settings`` say.  Raises KernelError naming the first that could not be had."""
    _ask(netns, device or f"device {index}", *configured(index, settings))


def change_all(changes: Sequence[Change], netns: str | None) -> list[KernelError | None]:
    """Change devices of one namespace: what could not be had first of each, or None.

    What comes behind a refusal is asked for all the same.  Raises KernelError when there is no asking.
    """
    asked = [(change, request) for change in changes for request in change.requests]
    with contextlib.ExitStack() as stack:
        if netns is not None:
            stack.enter_context(inside(netns))
        route = stack.enter_context(contextlib.closing(RouteSocket()))
        numbers = route.carry_out([(each.kind, each.flags, each.payload) for _, each in asked])
    refused: dict[int, KernelError] = {}
    for (change, request), number in zip(asked, numbers, strict=True):
        if number and not request.optional and id(change) not in refused:
            refused[id(change)] = request.refusal(change.device, number)
    return [refused.get(id(change)) for change in changes]


def set_up(index: int, up: bool, *, netns: str | None = None, device: str | None = None) -> None:
    """Take a device up or down.  Raises KernelError."""
    _ask(netns, device or f"device {index}", requests.up(index, up))


def set_mtu(index: int, mtu: int, *, netns: str | None = None, device: str | None = None) -> None:
    """Change the MTU, in bytes.  Raises KernelError."""
    _ask(netns, device or f"device {index}", requests.mtu(index, mtu))


def set_txqueuelen(index: int, frames: int, *, netns: str | None = None, device: str | None = None) -> None:
    """Change the ring's size; a shrink loses the frames that no longer fit.  Raises KernelError."""
    _ask(netns, device or f"device {index}", requests.txqueuelen(index, frames))


def set_mac(index: int, mac: str, *, netns: str | None = None, device: str | None = None) -> None:
    """Change the hardware address.  Raises KernelError."""
    _ask(netns, device or f"device {index}", requests.mac(index, mac))


def set_name(index: int, name: str, *, netns: str | None = None, device: str | None = None) -> None:
    """Rename a device where it is.  Raises KernelError, EEXIST when the name is taken."""
    _ask(netns, device or f"device {index}", requests.name(index, name))


def set_group(index: int, group: int, *, netns: str | None = None, device: str | None = None) -> None:
    """Put a device into a group of its namespace, for :func:`delete_group`.  Raises KernelError."""
    _ask(netns, device or f"device {index}", requests.group(index, group))


def add_address(index: int, address: str, *, netns: str | None = None, device: str | None = None) -> None:
    """Add ``10.0.0.1/24``.  Raises KernelError, EEXIST when it is there already."""
    _ask(netns, device or f"device {index}", requests.add_address(index, address))


def remove_address(index: int, address: str, *, netns: str | None = None, device: str | None = None) -> None:
    """Remove ``10.0.0.1/24``.  Raises KernelError, EADDRNOTAVAIL when it is not there."""
    _ask(netns, device or f"device {index}", requests.remove_address(index, address))


def add_route(index: int, route: Route, *, netns: str | None = None, device: str | None = None) -> None:
    """Add a route through a device that is up.  Raises KernelError, EEXIST when it is there already."""
    _ask(netns, device or f"device {index}", requests.add_route(index, route))


def remove_route(index: int, route: Route, *, netns: str | None = None, device: str | None = None) -> None:
    """Remove a route through a device.  Raises KernelError, ESRCH when it is not there."""
    _ask(netns, device or f"device {index}", requests.remove_route(index, route))


def delete(index: int, *, netns: str | None = None, device: str | None = None) -> None:
    """Delete a device, whoever holds it open.  Raises KernelError, ENODEV when it is gone."""
    _ask(netns, device or f"device {index}", requests.delete(index))


def delete_group(group: int, *, netns: str | None = None) -> None:
    """Delete every device of a group in a namespace, by one request: 2000 in 0.3 s instead of 37 s.

    ``group`` is not 0, which every device is in that nobody put elsewhere.  Raises KernelError, ENODEV
    when the group has none.
    """
    _ask(netns, f"group {group}", requests.delete_group(group))


def namespace_id(namespace: int) -> int:
    """The id of a namespace, given as a file descriptor, in the caller's; it gets one if it has none.

    Events and statistics of the namespace are told by this id, which lasts as long as the namespace.
    Raises KernelError.
    """
    this = _RTGENMSG + attribute(abi.NETNSA_FD, INT.pack(namespace))
    any_id = attribute(abi.NETNSA_NSID, INT.pack(abi.NETNSA_NSID_NOT_ASSIGNED))
    with contextlib.closing(RouteSocket()) as route:
        try:
            for _ in route.request(abi.RTM_NEWNSID, abi.NLM_F_ACK, this + any_id):
                pass
        except KernelError as error:
            if error.errno != errno.EEXIST:
                raise
        nsid = abi.NETNSA_NSID_NOT_ASSIGNED
        for _, _, start, end in route.request(abi.RTM_GETNSID, 0, this):
            for kind, first, _ in attributes(route.buffer, start + len(_RTGENMSG), end):
                if kind == abi.NETNSA_NSID:
                    (nsid,) = INT.unpack_from(route.buffer, first)
    if nsid == abi.NETNSA_NSID_NOT_ASSIGNED:
        raise KernelError(errno.ENOENT, "the namespace has no id here")
    return nsid


def _ask(netns: str | None, device: str, *asked: Request) -> None:
    for refusal in change_all([Change(device, asked)], netns):
        if refusal is not None:
            raise refusal


def _index_of(name: str, netns: str | None) -> int | None:
    """The index of the device of this name in a namespace, or None."""
    with contextlib.nullcontext() if netns is None else inside(netns):
        try:
            return socket.if_nametoindex(name)
        except OSError:
            return None
