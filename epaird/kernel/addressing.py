"""Addresses and routes of the devices of a namespace, whether epaird or another program set them."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from epaird.kernel import abi
from epaird.kernel.namespace import Namespace, inside
from epaird.kernel.netlink import ADDRESS, INT, ROUTE, RouteSocket, attributes

_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)


@dataclass(slots=True)
class DeviceAddressing:
    """The addresses and routes of one device."""

    addresses: set[str] = field(default_factory=set)
    """Addresses with their prefix length, ``10.0.0.1/24``."""
    routes: set[tuple[str, str]] = field(default_factory=set)
    """Routes of the main table: the network, ``0.0.0.0/0`` for a default route, and the next hop."""


def addressing(netns: Namespace | None) -> dict[int, DeviceAddressing]:
    """Return the devices of a namespace that have addresses or routes, by interface index.

    None is the caller's own namespace. Raises KernelError.
    """
    found: dict[int, DeviceAddressing] = defaultdict(DeviceAddressing)
    with inside(netns), contextlib.closing(RouteSocket()) as route:
        for index, address in _addresses(route):
            found[index].addresses.add(address)
        for family in _FAMILIES:
            for index, to, via in _routes(route, family):
                found[index].routes.add((to, via))
    return dict(found)


def _addresses(route: RouteSocket) -> Iterator[tuple[int, str]]:
    question = ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    for kind, _, start, end in route.request(abi.RTM_GETADDR, abi.NLM_F_DUMP, question):
        if kind != abi.RTM_NEWADDR:
            continue
        family, length, _, _, index = ADDRESS.unpack_from(route.buffer, start)
        if family not in _FAMILIES:
            continue
        payloads = _payloads(route.buffer, start + ADDRESS.size, end)
        # On a point-to-point link IFA_LOCAL is the device's own address and IFA_ADDRESS its peer's.
        packed = payloads.get(abi.IFA_LOCAL) or payloads.get(abi.IFA_ADDRESS)
        if packed is not None:
            yield index, f"{ipaddress.ip_address(packed)}/{length}"


def _routes(route: RouteSocket, family: int) -> Iterator[tuple[int, str, str]]:
    question = ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
    for kind, _, start, end in route.request(abi.RTM_GETROUTE, abi.NLM_F_DUMP, question):
        if kind != abi.RTM_NEWROUTE:
            continue
        _, length, _, _, table, _, _, _, _ = ROUTE.unpack_from(route.buffer, start)
        if table != abi.RT_TABLE_MAIN:
            continue
        payloads = _payloads(route.buffer, start + ROUTE.size, end)
        if abi.RTA_OIF in payloads and abi.RTA_GATEWAY in payloads:
            (index,) = INT.unpack(payloads[abi.RTA_OIF])
            to = payloads.get(abi.RTA_DST) or bytes(4 if family == socket.AF_INET else 16)
            gateway = payloads[abi.RTA_GATEWAY]
            yield index, f"{ipaddress.ip_address(to)}/{length}", str(ipaddress.ip_address(gateway))


def _payloads(buffer: bytearray, start: int, end: int) -> dict[int, bytes]:
    return {kind: bytes(buffer[first:last]) for kind, first, last in attributes(buffer, start, end)}
