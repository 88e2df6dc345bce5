"""What is asked of rtnetlink about devices: each request as bytes, with what it is about.

pyroute2 takes 0.2 ms to encode one of these and to decode its answer, ten times as long as the kernel takes
to carry it out; thousands of them are made when a daemon of a thousand pairs starts.
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
from epaird.kernel.netlink import INT, LINK, attribute

_IFADDRMSG: Final = struct.Struct("=BBBBI")
"""Family, prefix length, flags, scope, index."""
_RTMSG: Final = struct.Struct("=BBBBBBBBI")
"""Family, prefix lengths of destination and source, TOS, table, protocol, scope, type, flags."""
_TCMSG: Final = struct.Struct("=BxxxiIII")
"""Family, index, handle, parent, info."""
_CREATE: Final = abi.NLM_F_CREATE | abi.NLM_F_EXCL

# What an errno means for one thing and not for others.
_MTU: Final = MappingProxyType({errno.EINVAL: "outside of what the device allows"})
_MAC: Final = MappingProxyType({errno.EADDRNOTAVAIL: "not a unicast address"})
_ADDRESS: Final = MappingProxyType(
    {errno.EADDRNOTAVAIL: "is not there", errno.EACCES: "IPv6 is disabled there"}
)
_GROUP: Final = MappingProxyType({errno.ENODEV: "has no devices"})
_ROUTE: Final = MappingProxyType({errno.ESRCH: "is not there"})


@dataclass(frozen=True, slots=True)
class Request:
    """One request to rtnetlink."""

    thing: str
    """What it is about: ``mtu 9000``."""
    kind: int
    """RTM_*."""
    flags: int
    """NLM_F_*, besides those that every request has."""
    payload: bytes
    """The message behind its nlmsghdr."""
    words: Mapping[int, str] = field(default_factory=dict)
    """What an errno means for this thing."""
    optional: bool = False
    """A refusal makes no difference."""

    def refusal(self, device: str, number: int) -> KernelError:
        """The error that says what could not be had for ``device``."""
        if number in self.words:
            return KernelError(number, f"{device}: {self.thing}: {self.words[number]}")
        return KernelError.about(f"{device}: {self.thing}", number)


@dataclass(frozen=True, slots=True)
class Route:
    """A route through the device."""

    to: str
    """A network, ``10.1.0.0/16``, or ``default``."""
    via: str | None = None
    """The next hop's address, which also tells the family of ``default``; None: directly reachable."""

    def __str__(self) -> str:
        return f"{self.to} via {self.via}" if self.via else self.to


def up(index: int, wanted: bool) -> Request:
    """IFF_UP, or not."""
    message = LINK.pack(0, 0, index, abi.IFF_UP if wanted else 0, abi.IFF_UP)
    return Request("up" if wanted else "down", abi.RTM_SETLINK, 0, message)


def mtu(index: int, size: int) -> Request:
    """``size`` is in bytes."""
    return _set(f"mtu {size}", index, attribute(abi.IFLA_MTU, INT.pack(size)), _MTU)


def txqueuelen(index: int, frames: int) -> Request:
    """The size of the device's ring."""
    return _set(f"txqueuelen {frames}", index, attribute(abi.IFLA_TXQLEN, INT.pack(frames)))


def mac(index: int, address: str) -> Request:
    """``02:5d:11:22:33:0a``."""
    value = bytes.fromhex(address.replace(":", ""))
    return _set(f"mac {address}", index, attribute(abi.IFLA_ADDRESS, value), _MAC)


def name(index: int, wanted: str, netns: int | None = None, *, thing: str | None = None) -> Request:
    """A new name, and with ``netns``, a file descriptor, another namespace."""
    attributes = _name(wanted)
    if netns is not None:
        attributes += attribute(abi.IFLA_NET_NS_FD, INT.pack(netns))
    return _set(thing or f"name {wanted}", index, attributes)


def group(index: int, number: int) -> Request:
    """The group of its namespace that the device is in."""
    return _set(f"group {number}", index, _group(number))


def group_of_name(device: str, number: int) -> Request:
    """As :func:`group`, of a device known by its name."""
    return _set(f"group {number}", 0, _name(device) + _group(number))


def delete(index: int) -> Request:
    """Delete a device."""
    return Request("delete", abi.RTM_DELLINK, 0, LINK.pack(0, 0, index, 0, 0))


def delete_group(number: int) -> Request:
    """Delete every device of a group; one of group 0 would mean all."""
    if number <= 0:
        raise ValueError(f"group {number} is not one to delete")
    message = LINK.pack(0, 0, 0, 0, 0) + _group(number)
    return Request("delete", abi.RTM_DELLINK, 0, message, _GROUP)


def no_qdisc(index: int) -> Request:
    """No queueing discipline, as on a veth: frames go straight into the ring.

    The default, pfifo_fast, gives each queue three more rings of txqueuelen frames, which a device that
    never says "later" never uses: with 10,000 frames 384 KB for a device, and 96 MB for one of several
    queues, since it has 256 then.  A kernel that will not do without is left with its default.
    """
    message = _TCMSG.pack(0, index, 0, abi.TC_H_ROOT, 0) + attribute(abi.TCA_KIND, b"noqueue\0")
    return Request("qdisc noqueue", abi.RTM_NEWQDISC, _CREATE, message, optional=True)


def add_address(index: int, address: str) -> Request:
    """``10.0.0.1/24``."""
    return _address(index, address, abi.RTM_NEWADDR, _CREATE)


def remove_address(index: int, address: str) -> Request:
    """``10.0.0.1/24``."""
    return _address(index, address, abi.RTM_DELADDR, 0)


def add_route(index: int, route: Route) -> Request:
    """To the main table, as ``ip route add`` does."""
    scope = abi.RT_SCOPE_UNIVERSE if route.via or _family(route) == socket.AF_INET6 else abi.RT_SCOPE_LINK
    return _route(index, route, abi.RTM_NEWROUTE, _CREATE, (abi.RTPROT_STATIC, scope, abi.RTN_UNICAST))


def remove_route(index: int, route: Route) -> Request:
    """From the main table, whoever has put it there."""
    return _route(index, route, abi.RTM_DELROUTE, 0, (abi.RTPROT_UNSPEC, abi.RT_SCOPE_NOWHERE, 0))


def _set(
    thing: str, index: int, attributes: bytes, words: Mapping[int, str] = MappingProxyType({})
) -> Request:
    return Request(thing, abi.RTM_SETLINK, 0, LINK.pack(0, 0, index, 0, 0) + attributes, words)


def _name(wanted: str) -> bytes:
    return attribute(abi.IFLA_IFNAME, os.fsencode(wanted) + b"\0")


def _group(number: int) -> bytes:
    return attribute(abi.IFLA_GROUP, INT.pack(number))


def _address(index: int, address: str, kind: int, flags: int) -> Request:
    interface = ipaddress.ip_interface(address)
    family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
    length = interface.network.prefixlen
    message = _IFADDRMSG.pack(family, length, 0, abi.RT_SCOPE_UNIVERSE, index)
    for each in (abi.IFA_LOCAL, abi.IFA_ADDRESS):
        message += attribute(each, interface.ip.packed)
    return Request(f"address {address}", kind, flags, message, _ADDRESS)


def _family(route: Route) -> socket.AddressFamily:
    told = route.via if route.to == "default" else route.to.partition("/")[0]
    version = 4 if told is None else ipaddress.ip_address(told).version
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _route(index: int, route: Route, kind: int, flags: int, how: tuple[int, int, int]) -> Request:
    family = _family(route)
    length, destination = 0, b""
    if route.to != "default":
        network = ipaddress.ip_network(route.to)
        length = network.prefixlen
        destination = attribute(abi.RTA_DST, network.network_address.packed)
    message = _RTMSG.pack(family, length, 0, 0, abi.RT_TABLE_MAIN, *how, 0) + destination
    message += attribute(abi.RTA_OIF, INT.pack(index))
    if route.via is not None:
        message += attribute(abi.RTA_GATEWAY, ipaddress.ip_address(route.via).packed)
    return Request(f"route {route}", kind, flags, message, _ROUTE)
