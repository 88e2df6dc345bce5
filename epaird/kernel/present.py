"""Which addresses and routes the devices of a namespace have, whoever gave them."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from epaird.kernel import abi
from epaird.kernel.namespace import inside
from epaird.kernel.netlink import INT, RouteSocket, attributes

_IFADDRMSG: Final = struct.Struct("=BBBBI")
"""Family, prefix length, flags, scope, index."""
_RTMSG: Final = struct.Struct("=BBBBBBBBI")
"""Family, prefix lengths of destination and source, TOS, table, protocol, scope, type, flags."""
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)


@dataclass(slots=True)
class Present:
    """What one device has."""

    addresses: set[str] = field(default_factory=set)
    """``10.0.0.1/24``."""
    routes: set[tuple[str, str]] = field(default_factory=set)
    """Of the main table: networks, ``0.0.0.0/0`` for a default, and next hops."""


def present(netns: str | None) -> dict[int, Present]:
    """The devices of a namespace that have any, by index; None is the caller's own.  Raises KernelError."""
    found: dict[int, Present] = defaultdict(Present)
    with contextlib.ExitStack() as stack:
        if netns is not None:
            stack.enter_context(inside(netns))
        route = stack.enter_context(contextlib.closing(RouteSocket()))
        for index, address in _addresses(route):
            found[index].addresses.add(address)
        for family in _FAMILIES:
            for index, to, via in _routes(route, family):
                found[index].routes.add((to, via))
    return dict(found)


def _addresses(route: RouteSocket) -> Iterator[tuple[int, str]]:
    question = _IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    for kind, _, start, end in route.request(abi.RTM_GETADDR, abi.NLM_F_DUMP, question):
        if kind != abi.RTM_NEWADDR:
            continue
        family, length, _, _, index = _IFADDRMSG.unpack_from(route.buffer, start)
        if family not in _FAMILIES:
            continue
        said = _said(route.buffer, start + _IFADDRMSG.size, end)
        # Of a point-to-point link the first is ours and the second the other's.
        packed = said.get(abi.IFA_LOCAL) or said.get(abi.IFA_ADDRESS)
        if packed is not None:
            yield index, f"{ipaddress.ip_address(packed)}/{length}"


def _routes(route: RouteSocket, family: int) -> Iterator[tuple[int, str, str]]:
    question = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
    for kind, _, start, end in route.request(abi.RTM_GETROUTE, abi.NLM_F_DUMP, question):
        if kind != abi.RTM_NEWROUTE:
            continue
        _, length, _, _, table, _, _, _, _ = _RTMSG.unpack_from(route.buffer, start)
        if table != abi.RT_TABLE_MAIN:
            continue
        said = _said(route.buffer, start + _RTMSG.size, end)
        if abi.RTA_OIF in said and abi.RTA_GATEWAY in said:
            (index,) = INT.unpack(said[abi.RTA_OIF])
            to = said.get(abi.RTA_DST) or bytes(4 if family == socket.AF_INET else 16)
            yield (
                index,
                f"{ipaddress.ip_address(to)}/{length}",
                str(ipaddress.ip_address(said[abi.RTA_GATEWAY])),
            )


def _said(buffer: bytearray, start: int, end: int) -> dict[int, bytes]:
    return {kind: bytes(buffer[first:last]) for kind, first, last in attributes(buffer, start, end)}
