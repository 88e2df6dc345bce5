"""Requests to rtnetlink about devices: the encoded message, its subject and its possible refusals.

pyroute2 takes 0.2 ms to encode such a request and to decode its answer, ten times as long as the kernel takes
to execute it; a daemon of a thousand pairs makes thousands of them when it starts.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from epaird.kernel import abi
from epaird.kernel.errors import KernelError
from epaird.kernel.netlink import ADDRESS, INT, LINK, ROUTE, attribute

_TCMSG: Final = struct.Struct("=BxxxiIII")
"""struct tcmsg: family, index, handle, parent, info."""
_CREATE: Final = abi.NLM_F_CREATE | abi.NLM_F_EXCL

# Meanings of an errno for one subject that do not hold for others.
_MTU: Final = MappingProxyType({errno.EINVAL: "outside of what the device allows"})
_MAC: Final = MappingProxyType({errno.EADDRNOTAVAIL: "not a unicast address"})
_ADDRESS: Final = MappingProxyType(
    {errno.EADDRNOTAVAIL: "does not exist", errno.EACCES: "IPv6 is disabled on this device"}
)
_GROUP: Final = MappingProxyType({errno.ENODEV: "has no devices"})
_ROUTE: Final = MappingProxyType({errno.ESRCH: "does not exist"})


@dataclass(frozen=True, slots=True)
class NetlinkRequest:
    """One request to rtnetlink."""

    subject: str
    """The subject in messages: ``mtu 9000``."""
    kind: int
    """RTM_*."""
    flags: int
    """NLM_F_*, besides those that every request has."""
    payload: bytes
    """The message after its nlmsghdr."""
    explanations: Mapping[int, str] = field(default_factory=dict)
    """Meanings of an errno that are specific to this subject."""
    optional: bool = False
    """True when a refusal does not matter."""

    def refusal(self, device: str, number: int) -> KernelError:
        """Return the error for a refused request: the device, the subject and the cause."""
        if number in self.explanations:
            return KernelError(number, f"{device}: {self.subject}: {self.explanations[number]}")
        return KernelError.about(f"{device}: {self.subject}", number)


@dataclass(frozen=True, slots=True)
class Route:
    """A route through the device."""

    to: str
    """The destination: a network, ``10.1.0.0/16``, or ``default``."""
    via: str | None = None
    """The next hop's address, which also determines the family of ``default``; None: directly reachable."""

    def __str__(self) -> str:
        return f"{self.to} via {self.via}" if self.via else self.to


def up(index: int, wanted: bool) -> NetlinkRequest:
    """Set or clear IFF_UP."""
    message = LINK.pack(0, 0, index, abi.IFF_UP if wanted else 0, abi.IFF_UP)
    return NetlinkRequest("up" if wanted else "down", abi.RTM_SETLINK, 0, message)


def mtu(index: int, size: int) -> NetlinkRequest:
    """Set the MTU to ``size`` bytes."""
    return _set(f"mtu {size}", index, attribute(abi.IFLA_MTU, INT.pack(size)), _MTU)


def txqueuelen(index: int, frames: int) -> NetlinkRequest:
    """Set the size of the device's ring."""
    return _set(f"txqueuelen {frames}", index, attribute(abi.IFLA_TXQLEN, INT.pack(frames)))


def mac(index: int, address: str) -> NetlinkRequest:
    """Set the MAC address, ``02:5d:11:22:33:0a``."""
    value = bytes.fromhex(address.replace(":", ""))
    return _set(f"mac {address}", index, attribute(abi.IFLA_ADDRESS, value), _MAC)


def name(index: int, wanted: str, netns: int | None = None, *, subject: str | None = None) -> NetlinkRequest:
    """Rename a device and, with ``netns``, a file descriptor, move it to another namespace."""
    attributes = _name(wanted)
    if netns is not None:
        attributes += attribute(abi.IFLA_NET_NS_FD, INT.pack(netns))
    return _set(subject or f"name {wanted}", index, attributes)


def group(index: int, number: int) -> NetlinkRequest:
    """Put a device into a group of its namespace."""
    return _set(f"group {number}", index, _group(number))


def delete(index: int) -> NetlinkRequest:
    """Delete a device."""
    return NetlinkRequest("delete", abi.RTM_DELLINK, 0, LINK.pack(0, 0, index, 0, 0))


def delete_group(number: int) -> NetlinkRequest:
    """Delete every device of a group. Raises ValueError for group 0, which would mean all devices."""
    if number <= 0:
        raise ValueError(f"group {number} is not one to delete")
    message = LINK.pack(0, 0, 0, 0, 0) + _group(number)
    return NetlinkRequest("delete", abi.RTM_DELLINK, 0, message, _GROUP)


def no_qdisc(index: int) -> NetlinkRequest:
    """Remove the queueing discipline, as on a veth: frames go straight into the ring.

    The default, pfifo_fast, gives each queue three more rings of txqueuelen frames, which a device that
    never stops its queue never uses: with 10,000 frames 384 KB for a device, and 96 MB for one of several
    queues, since it has 256 then. If the kernel refuses, the device keeps the default.
    """
    message = _TCMSG.pack(0, index, 0, abi.TC_H_ROOT, 0) + attribute(abi.TCA_KIND, b"noqueue\0")
    return NetlinkRequest("qdisc noqueue", abi.RTM_NEWQDISC, _CREATE, message, optional=True)


def add_address(index: int, address: str) -> NetlinkRequest:
    """Add an address, ``10.0.0.1/24``."""
    return _address(index, address, abi.RTM_NEWADDR, _CREATE)


def remove_address(index: int, address: str) -> NetlinkRequest:
    """Remove an address, ``10.0.0.1/24``."""
    return _address(index, address, abi.RTM_DELADDR, 0)


def add_route(index: int, route: Route) -> NetlinkRequest:
    """Add a route to the main table, as ``ip route add`` does."""
    scope = abi.RT_SCOPE_UNIVERSE if route.via or _family(route) == socket.AF_INET6 else abi.RT_SCOPE_LINK
    return _route(index, route, abi.RTM_NEWROUTE, _CREATE, (abi.RTPROT_STATIC, scope, abi.RTN_UNICAST))


def remove_route(index: int, route: Route) -> NetlinkRequest:
    """Remove a route from the main table, whichever program added it."""
    return _route(index, route, abi.RTM_DELROUTE, 0, (abi.RTPROT_UNSPEC, abi.RT_SCOPE_NOWHERE, 0))


def _set(
    subject: str, index: int, attributes: bytes, explanations: Mapping[int, str] = MappingProxyType({})
) -> NetlinkRequest:
    message = LINK.pack(0, 0, index, 0, 0) + attributes
    return NetlinkRequest(subject, abi.RTM_SETLINK, 0, message, explanations)


def _name(wanted: str) -> bytes:
    return attribute(abi.IFLA_IFNAME, os.fsencode(wanted) + b"\0")


def _group(number: int) -> bytes:
    return attribute(abi.IFLA_GROUP, INT.pack(number))


def _address(index: int, address: str, kind: int, flags: int) -> NetlinkRequest:
    interface = ipaddress.ip_interface(address)
    family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
    length = interface.network.prefixlen
    message = ADDRESS.pack(family, length, 0, abi.RT_SCOPE_UNIVERSE, index)
    for attribute_kind in (abi.IFA_LOCAL, abi.IFA_ADDRESS):
        message += attribute(attribute_kind, interface.ip.packed)
    return NetlinkRequest(f"address {address}", kind, flags, message, _ADDRESS)


def _family(route: Route) -> socket.AddressFamily:
    address = route.via if route.to == "default" else route.to.partition("/")[0]
    version = 4 if address is None else ipaddress.ip_address(address).version
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _route(index: int, route: Route, kind: int, flags: int, header: tuple[int, int, int]) -> NetlinkRequest:
    """``header``: the protocol, scope and type of struct rtmsg."""
    family = _family(route)
    length, destination = 0, b""
    if route.to != "default":
        network = ipaddress.ip_network(route.to)
        length = network.prefixlen
        destination = attribute(abi.RTA_DST, network.network_address.packed)
    message = ROUTE.pack(family, length, 0, 0, abi.RT_TABLE_MAIN, *header, 0) + destination
    message += attribute(abi.RTA_OIF, INT.pack(index))
    if route.via is not None:
        message += attribute(abi.RTA_GATEWAY, ipaddress.ip_address(route.via).packed)
    return NetlinkRequest(f"route {route}", kind, flags, message, _ROUTE)
