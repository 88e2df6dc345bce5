"""What the devices of a namespace have: addresses, routes, policy rules and queueing disciplines."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from epaird.kernel import abi
from epaird.kernel.netlink import ADDRESS, INT, LINK, ROUTE, RouteSocket, attribute, attributes
from epaird.kernel.policy import Rule
from epaird.kernel.requests import Address, Route

_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
_UNSIGNED: Final = struct.Struct("=I")
_DETACHED: Final = abi.FIB_RULE_IIF_DETACHED | abi.FIB_RULE_OIF_DETACHED
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
    """Interface index of the device; 0 for a route through several devices."""
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
    """What one device has."""

    name: str = ""
    """Name of the device in its namespace."""
    up: bool = False
    """IFF_UP."""
    qdisc: str = ""
    """The root queueing discipline, ``noqueue``."""
    addresses: tuple[PresentAddress, ...] = ()
    """Addresses, for each family in the order in which the kernel was given them; of the IPv4 addresses of a
    subnet the first one is the primary."""
    routes: tuple[PresentRoute, ...] = ()
    """Routes through the device, of all tables but ``local``."""
    rules: tuple[Rule, ...] = ()
    """Policy rules of the namespace."""


@dataclass(frozen=True, slots=True)
class NamespaceState:
    """What the devices of one namespace have."""

    devices: dict[int, DeviceState]
    """Devices by interface index."""
    routes: tuple[PresentRoute, ...]
    """Routes of all devices and tables but ``local``."""
    rules: tuple[Rule, ...]
    """Policy rules, by family in the order of their preferences."""


def present(route: RouteSocket, indexes: Collection[int] | None = None) -> dict[int, DeviceState]:
    """Return the state of the devices with these interface indexes, None for all devices.

    ``route`` is a socket of the namespace. A device that does not exist is left out. Raises KernelError.
    """
    return read(route, indexes).devices


def read(route: RouteSocket, indexes: Collection[int] | None = None) -> NamespaceState:
    """Return the state of a namespace, limited to devices as in :func:`present`. Raises KernelError."""
    addresses: dict[int, list[PresentAddress]] = defaultdict(list)
    for each in _addresses(route):
        addresses[each.index].append(each)
    routes = tuple(each for family in _FAMILIES for each in _routes(route, family))
    rules = tuple(each for family in _FAMILIES for each in _rules(route, family))
    by_index: dict[int, list[PresentRoute]] = defaultdict(list)
    for entry in routes:
        by_index[entry.index].append(entry)
    devices = {
        index: DeviceState(name, up, qdisc, tuple(addresses[index]), tuple(by_index[index]), rules)
        for index, name, up, qdisc in _links(route, indexes)
    }
    return NamespaceState(devices, routes, rules)


def _links(route: RouteSocket, indexes: Collection[int] | None) -> Iterator[tuple[int, str, bool, str]]:
    """Yield (index, name, up, queueing discipline) of devices."""
    mask = attribute(abi.IFLA_EXT_MASK, INT.pack(abi.RTEXT_FILTER_SKIP_STATS))
    for kind, _, start, end in route.request(
        abi.RTM_GETLINK, abi.NLM_F_DUMP, LINK.pack(0, 0, 0, 0, 0) + mask
    ):
        if kind != abi.RTM_NEWLINK:
            continue
        _, _, index, flags, _ = LINK.unpack_from(route.buffer, start)
        if indexes is not None and index not in indexes:
            continue
        payloads = _payloads(route.buffer, start + LINK.size, end)
        name, qdisc = (_text(payloads.get(key, b"")) for key in (abi.IFLA_IFNAME, abi.IFLA_QDISC))
        yield index, name, bool(flags & abi.IFF_UP), qdisc


def _addresses(route: RouteSocket) -> Iterator[PresentAddress]:
    """Yield addresses, for each device and family in the order in which the kernel was given them."""
    question = ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    newest_first: list[PresentAddress] = []
    for kind, _, start, end in route.request(abi.RTM_GETADDR, abi.NLM_F_DUMP, question):
        if kind != abi.RTM_NEWADDR:
            continue
        family, length, flags, _, index = ADDRESS.unpack_from(route.buffer, start)
        if family not in _FAMILIES:
            continue
        payloads = _payloads(route.buffer, start + ADDRESS.size, end)
        peer = payloads.get(abi.IFA_ADDRESS, b"")
        # On a point-to-point link IFA_LOCAL is the device's own address and IFA_ADDRESS its peer's.
        own = payloads.get(abi.IFA_LOCAL, peer)
        if abi.IFA_FLAGS in payloads:
            (flags,) = _UNSIGNED.unpack(payloads[abi.IFA_FLAGS])
        address = Address(
            f"{ipaddress.ip_address(own)}/{length}",
            peer=None if peer in (own, b"") else str(ipaddress.ip_address(peer)),
            nodad=family == socket.AF_INET6 and bool(flags & abi.IFA_F_NODAD),
        )
        found = PresentAddress(address, index, bytes(route.buffer[start:end]))
        if family == socket.AF_INET:
            yield found
        else:
            newest_first.append(found)
    yield from reversed(newest_first)


def _routes(route: RouteSocket, family: int) -> Iterator[PresentRoute]:
    question = ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
    for kind, _, start, end in route.request(abi.RTM_GETROUTE, abi.NLM_F_DUMP, question):
        if kind != abi.RTM_NEWROUTE:
            continue
        _, length, _, _, table, protocol, _, _, flags = ROUTE.unpack_from(route.buffer, start)
        payloads = _payloads(route.buffer, start + ROUTE.size, end)
        if abi.RTA_TABLE in payloads:
            (table,) = _UNSIGNED.unpack(payloads[abi.RTA_TABLE])
        if table == abi.RT_TABLE_LOCAL or flags & abi.RTM_F_CLONED:
            continue
        to = payloads.get(abi.RTA_DST, bytes(4 if family == socket.AF_INET else 16))
        (index,) = INT.unpack(payloads.get(abi.RTA_OIF, bytes(4)))
        (metric,) = _UNSIGNED.unpack(payloads.get(abi.RTA_PRIORITY, bytes(4)))
        yield PresentRoute(
            Route(f"{ipaddress.ip_address(to)}/{length}", _ip(payloads.get(abi.RTA_GATEWAY)), metric),
            index,
            table,
            source=_ip(payloads.get(abi.RTA_PREFSRC)),
            automatic=protocol in _KERNELS,
            message=_route_message(bytes(route.buffer[start : start + ROUTE.size]), payloads),
        )


def _rules(route: RouteSocket, family: int) -> Iterator[Rule]:
    question = ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
    for kind, _, start, end in route.request(abi.RTM_GETRULE, abi.NLM_F_DUMP, question):
        if kind != abi.RTM_NEWRULE:
            continue
        _, length, source_length, tos, table, _, _, action, flags = ROUTE.unpack_from(route.buffer, start)
        payloads = _payloads(route.buffer, start + ROUTE.size, end)
        if abi.FRA_TABLE in payloads:
            (table,) = _UNSIGNED.unpack(payloads[abi.FRA_TABLE])
        to = _ip(payloads.get(abi.FRA_DST))
        iif, oif = payloads.get(abi.FRA_IIFNAME), payloads.get(abi.FRA_OIFNAME)
        yield Rule(
            family,
            _UNSIGNED.unpack(payloads.get(abi.FRA_PRIORITY, bytes(4)))[0],
            table,
            to=None if to is None else f"{to}/{length}",
            iif=None if iif is None else _text(iif),
            oif=None if oif is None else _text(oif),
            other=bool(source_length or tos or flags & ~_DETACHED or action != abi.FR_ACT_TO_TBL)
            or bool(payloads.keys() & _CONDITIONS),
        )


def _route_message(header: bytes, payloads: dict[int, bytes]) -> bytes:
    """Return a request's message that adds a route as the kernel described it."""
    *fields, flags = ROUTE.unpack(header)
    ignored = {abi.RTA_CACHEINFO}
    if abi.RTA_NH_ID in payloads:
        ignored |= {abi.RTA_OIF, abi.RTA_GATEWAY, abi.RTA_MULTIPATH}
    rest = (attribute(kind, value) for kind, value in payloads.items() if kind not in ignored)
    return ROUTE.pack(*fields, flags & abi.RTNH_F_ONLINK) + b"".join(rest)


def _payloads(buffer: bytearray, start: int, end: int) -> dict[int, bytes]:
    return {kind: bytes(buffer[first:last]) for kind, first, last in attributes(buffer, start, end)}


def _ip(packed: bytes | None) -> str | None:
    return None if packed is None else str(ipaddress.ip_address(packed))


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "surrogateescape")
