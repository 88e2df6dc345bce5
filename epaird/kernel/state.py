"""The state of a namespace's devices: addresses, routes, policy rules and queueing disciplines."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, TypeVar

from epaird.kernel import abi
from epaird.kernel.netlink import ADDRESS, INT, LINK, ROUTE, RouteSocket, attribute, attributes
from epaird.kernel.printable import printable
from epaird.kernel.requests import Address, Route, Rule

T = TypeVar("T")

_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
_UNSIGNED: Final = struct.Struct("=I")
_NEXT_HOP: Final = struct.Struct("=HBBi")
"""struct rtnexthop: length, flags, hops, index."""
_DETACHED: Final = abi.FIB_RULE_IIF_DETACHED | abi.FIB_RULE_OIF_DETACHED
_ATTEMPTS: Final = 3
"""Dumps of one kind of object before one is used although objects changed during it."""
_CONDITIONS: Final = frozenset(
    (
        abi.FRA_FWMARK,
        abi.FRA_TUN_ID,
        abi.FRA_L3MDEV,
        abi.FRA_UID_RANGE,
        abi.FRA_IP_PROTO,
        abi.FRA_SPORT_RANGE,
        abi.FRA_DPORT_RANGE,
        abi.FRA_SRC,
    )
)
"""Conditions of a rule that epaird's own rules do not have."""
_KERNELS: Final = frozenset((abi.RTPROT_REDIRECT, abi.RTPROT_KERNEL, abi.RTPROT_RA))
"""Protocols of routes that the kernel adds and removes by itself."""


@dataclass(frozen=True, slots=True)
class PresentAddress:
    """An address that a device has."""

    address: Address
    """The address."""
    index: int = 0
    """Interface index of the device."""
    message: bytes = b""
    """The kernel's description, which adds the address again: struct ifaddrmsg and attributes."""


@dataclass(frozen=True, slots=True)
class PresentRoute:
    """A route that a namespace has."""

    route: Route
    """The route; ``default`` is written ``0.0.0.0/0`` or ``::/0``, and the metric is always set."""
    index: int = 0
    """Interface index of the device; 0 for an IPv4 route with several next hops."""
    table: int = abi.RT_TABLE_MAIN
    """Routing table."""
    source: str | None = None
    """Preferred source address, ``src`` in iproute2."""
    automatic: bool = False
    """True for a route that the kernel adds and removes by itself."""
    message: bytes = b""
    """The kernel's description, which adds the route again: struct rtmsg and attributes."""


@dataclass(frozen=True, slots=True)
class DeviceState:
    """The state of one device."""

    name: str = ""
    """Name of the device in its namespace, in the printable form."""
    up: bool = False
    """IFF_UP."""
    qdisc: str = ""
    """The root queueing discipline, ``noqueue``."""
    accepts_local: bool = False
    """True when the device accepts IPv4 packets from the namespace's own addresses."""
    addresses: tuple[PresentAddress, ...] = ()
    """Addresses, for each family in the order in which the kernel was given them; of the IPv4 addresses of a
    subnet the first one is the primary."""
    routes: tuple[PresentRoute, ...] = ()
    """Routes through the device, of all tables but ``local``."""
    rules: tuple[Rule, ...] = ()
    """Policy rules of the namespace."""


@dataclass(frozen=True, slots=True)
class NamespaceState:
    """The state of the devices of one namespace."""

    devices: dict[int, DeviceState]
    """Devices by interface index."""
    routes: tuple[PresentRoute, ...]
    """Routes of all devices and of all tables but ``local``."""
    rules: tuple[Rule, ...]
    """Policy rules, by family in the order of their preferences."""


def present(route: RouteSocket, indexes: Collection[int] | None = None) -> dict[int, DeviceState]:
    """Return the state of the devices with these interface indexes, None for all devices.

    ``route`` is a socket of the namespace. A device that does not exist is left out. Raises KernelError.
    """
    return read(route, indexes).devices


def read(route: RouteSocket, indexes: Collection[int] | None = None) -> NamespaceState:
    """Return the state of a namespace, limited to devices as in :func:`present`. Raises KernelError.

    Routes that the kernel adds by itself are limited to these devices, all other routes are not.
    """

    def of_device(position: int) -> Callable[[tuple[int, ...]], bool]:
        return lambda fields: indexes is None or fields[position] in indexes

    addresses: dict[int, list[PresentAddress]] = defaultdict(list)
    four, six = (
        _dump(route, abi.RTM_GETADDR, ADDRESS, family, _address, of_device(4)) for family in _FAMILIES
    )
    # The kernel lists the newest IPv6 address first.
    for address in (*four, *reversed(six)):
        addresses[address.index].append(address)
    routes = tuple(
        found
        for family in _FAMILIES
        for together in _dump(route, abi.RTM_GETROUTE, ROUTE, family, _routes, _is_of_interest)
        for found in together
        if not found.automatic or indexes is None or found.index in indexes
    )
    rules = tuple(
        found for family in _FAMILIES for found in _dump(route, abi.RTM_GETRULE, ROUTE, family, _rule)
    )
    by_index: dict[int, list[PresentRoute]] = defaultdict(list)
    for each in routes:
        by_index[each.index].append(each)
    devices = {
        index: replace(device, addresses=tuple(addresses[index]), routes=tuple(by_index[index]), rules=rules)
        for index, device in _dump(route, abi.RTM_GETLINK, LINK, socket.AF_UNSPEC, _link, of_device(2))
    }
    return NamespaceState(devices, routes, rules)


def _dump(
    route: RouteSocket,
    kind: int,
    header: struct.Struct,
    family: int,
    parse: Callable[[tuple[int, ...], Mapping[int, bytes]], T],
    of_interest: Callable[[tuple[int, ...]], bool] = lambda _: True,
) -> list[T]:
    """Dump objects. ``kind`` is RTM_GET*; ``parse`` gets the fields of the header and the attributes.

    Objects that are not ``of_interest`` by their header are not decoded: there are thousands of them."""
    question = header.pack(family, *bytes(len(header.unpack(bytes(header.size))) - 1))
    if kind == abi.RTM_GETLINK:
        question += attribute(abi.IFLA_EXT_MASK, INT.pack(abi.RTEXT_FILTER_SKIP_STATS))
    found: list[T] = []
    for _ in range(_ATTEMPTS):
        found.clear()
        interrupted = 0
        for answer, flags, start, end in route.request(kind, abi.NLM_F_DUMP, question):
            interrupted |= flags & abi.NLM_F_DUMP_INTR
            fields = header.unpack_from(route.buffer, start)
            # The types of an object are NEW, DEL and GET, in this order.
            if answer == kind - 2 and family in (fields[0], socket.AF_UNSPEC) and of_interest(fields):
                found.append(parse(fields, _payloads(route.buffer, start + header.size, end)))
        if not interrupted:
            break
    return found


def _link(fields: tuple[int, ...], payloads: Mapping[int, bytes]) -> tuple[int, DeviceState]:
    """Return the index of a device and its state without addresses, routes and rules."""
    _, _, index, flags, _ = fields
    name, qdisc = (_text(payloads.get(key, b"")) for key in (abi.IFLA_IFNAME, abi.IFLA_QDISC))
    parameters = _nested(_nested(payloads, abi.IFLA_AF_SPEC), socket.AF_INET).get(abi.IFLA_INET_CONF, b"")
    # An array of integers, of which the first one has the number 1.
    start = INT.size * (abi.IPV4_DEVCONF_ACCEPT_LOCAL - 1)
    accepts_local = any(parameters[start : start + INT.size])
    return index, DeviceState(name, bool(flags & abi.IFF_UP), qdisc, accepts_local)


def _address(fields: tuple[int, ...], payloads: Mapping[int, bytes]) -> PresentAddress:
    family, length, flags, scope, index = fields
    peer = payloads.get(abi.IFA_ADDRESS, b"")
    # On a point-to-point link IFA_LOCAL is the device's own address and IFA_ADDRESS its peer's.
    own = payloads.get(abi.IFA_LOCAL, peer)
    if abi.IFA_FLAGS in payloads:
        (flags,) = _UNSIGNED.unpack(payloads[abi.IFA_FLAGS])
    address = Address(
        f"{_ip(own)}/{length}",
        peer=None if peer in (own, b"") else _ip(peer),
        nodad=family == socket.AF_INET6 and bool(flags & abi.IFA_F_NODAD),
    )
    header = ADDRESS.pack(family, length, flags & 0xFF, scope, index)
    return PresentAddress(address, index, _message(header, payloads))


def _is_of_interest(fields: tuple[int, ...]) -> bool:
    """Return whether a route is in another table than ``local``, and not a copy for one destination."""
    return fields[4] != abi.RT_TABLE_LOCAL and not fields[8] & abi.RTM_F_CLONED


def _routes(fields: tuple[int, ...], payloads: Mapping[int, bytes]) -> tuple[PresentRoute, ...]:
    """Return a route; or, of IPv6 routes to one network that the kernel describes together, each one."""
    if fields[0] == socket.AF_INET or abi.RTA_MULTIPATH not in payloads:
        return (_route(fields, payloads),)
    shared = {kind: value for kind, value in payloads.items() if kind != abi.RTA_MULTIPATH}
    hops = bytearray(payloads[abi.RTA_MULTIPATH])
    found: list[PresentRoute] = []
    start = 0
    while start + _NEXT_HOP.size <= len(hops):
        length, _, _, index = _NEXT_HOP.unpack_from(hops, start)
        if length < _NEXT_HOP.size:
            break
        own = {abi.RTA_OIF: INT.pack(index), **_payloads(hops, start + _NEXT_HOP.size, start + length)}
        found.append(_route(fields, shared | own))
        start += (length + 3) & ~3
    return tuple(found)


def _route(fields: tuple[int, ...], payloads: Mapping[int, bytes]) -> PresentRoute:
    *rest, flags = fields
    family, length, _, _, table, protocol, _, _ = rest
    if abi.RTA_TABLE in payloads:
        (table,) = _UNSIGNED.unpack(payloads[abi.RTA_TABLE])
    to = payloads.get(abi.RTA_DST, bytes(4 if family == socket.AF_INET else 16))
    via, source = payloads.get(abi.RTA_GATEWAY), payloads.get(abi.RTA_PREFSRC)
    (metric,) = _UNSIGNED.unpack(payloads.get(abi.RTA_PRIORITY, bytes(4)))
    (index,) = INT.unpack(payloads.get(abi.RTA_OIF, bytes(4)))
    ignored = {abi.RTA_CACHEINFO}
    if abi.RTA_NH_ID in payloads:
        ignored |= {abi.RTA_OIF, abi.RTA_GATEWAY, abi.RTA_MULTIPATH}
    return PresentRoute(
        Route(f"{_ip(to)}/{length}", None if via is None else _ip(via), metric),
        index,
        table,
        source=None if source is None else _ip(source),
        automatic=protocol in _KERNELS,
        message=_message(ROUTE.pack(*rest, flags & abi.RTNH_F_ONLINK), payloads, ignored),
    )


def _rule(fields: tuple[int, ...], payloads: Mapping[int, bytes]) -> Rule:
    family, length, source_length, tos, table, _, _, action, flags = fields
    if abi.FRA_TABLE in payloads:
        (table,) = _UNSIGNED.unpack(payloads[abi.FRA_TABLE])
    (priority,) = _UNSIGNED.unpack(payloads.get(abi.FRA_PRIORITY, bytes(4)))
    to, iif, oif = (payloads.get(key) for key in (abi.FRA_DST, abi.FRA_IIFNAME, abi.FRA_OIFNAME))
    return Rule(
        family,
        priority,
        table,
        to=None if to is None else f"{_ip(to)}/{length}",
        iif=None if iif is None else _text(iif),
        oif=None if oif is None else _text(oif),
        other=bool(source_length or tos or flags & ~_DETACHED or action != abi.FR_ACT_TO_TBL)
        or not payloads.keys().isdisjoint(_CONDITIONS),
    )


def _message(header: bytes, payloads: Mapping[int, bytes], ignored: Collection[int] = ()) -> bytes:
    """Return the message of a request that adds an object as the kernel described it."""
    rest = (attribute(kind, value) for kind, value in payloads.items() if kind not in ignored)
    return header + b"".join(rest)


def _payloads(buffer: bytearray, start: int, end: int) -> dict[int, bytes]:
    return {kind: bytes(buffer[first:last]) for kind, first, last in attributes(buffer, start, end)}


def _nested(payloads: Mapping[int, bytes], kind: int) -> dict[int, bytes]:
    """Return the attributes within an attribute; none when it is absent."""
    inner = bytearray(payloads.get(kind, b""))
    return _payloads(inner, 0, len(inner))


@lru_cache(maxsize=4096)
def _ip(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed))


def _text(value: bytes) -> str:
    return printable(value.rstrip(b"\0"))
