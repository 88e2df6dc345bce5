"""Requests to rtnetlink about devices: the encoded message, its subject and its possible refusals.

pyroute2 takes 0.2 ms to encode such a request and to decode its answer, ten times as long as the kernel takes
to execute it; a daemon of a thousand pairs makes thousands of them when it starts.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from epaird.kernel import abi
from epaird.kernel.errors import KernelError
from epaird.kernel.netlink import ADDRESS, INT, LINK, ROUTE, attribute
from epaird.kernel.printable import raw

_TCMSG: Final = struct.Struct("=BxxxiIII")
"""struct tcmsg: family, index, handle, parent, info."""
_UNSIGNED: Final = struct.Struct("=I")
_CREATE: Final = abi.NLM_F_CREATE | abi.NLM_F_EXCL

# Meanings of an errno for one subject that do not hold for others.
_MTU: Final = MappingProxyType({errno.EINVAL: "outside of what the device allows"})
_MAC: Final = MappingProxyType({errno.EADDRNOTAVAIL: "not a unicast address"})
_ADDRESS: Final = MappingProxyType(
    {errno.EADDRNOTAVAIL: "does not exist", errno.EACCES: "IPv6 is disabled on this device"}
)
_ADDRESS_IPV6: Final = MappingProxyType(
    {**_ADDRESS, errno.EINVAL: f"IPv6 needs an MTU of at least {abi.IPV6_MIN_MTU} bytes"}
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
class Address:
    """An address of a device."""

    address: str
    """The device's own address with a prefix length, ``10.0.0.1/24``."""
    peer: str | None = None
    """The address of the other end of a point-to-point link, ``10.0.0.2``; the prefix length is then the
    peer's. None: the address has no peer."""
    nodad: bool = False
    """True when the kernel uses an IPv6 address without duplicate address detection. Without meaning for
    IPv4."""

    def __str__(self) -> str:
        text = self.address
        if self.peer is not None:
            own, _, length = self.address.partition("/")
            text = f"{own} peer {self.peer}/{length}"
        return f"{text} nodad" if self.nodad else text


@dataclass(frozen=True, slots=True)
class Route:
    """A route through the device."""

    to: str
    """The destination: a network, ``10.1.0.0/16``, or ``default``."""
    via: str | None = None
    """The next hop's address, which also determines the family of ``default``; None: directly reachable."""
    metric: int | None = None
    """The route's metric; None and 0 are the kernel's default, 0 for IPv4 and 1024 for IPv6."""

    def __str__(self) -> str:
        text = f"{self.to} via {self.via}" if self.via else self.to
        return f"{text} metric {self.metric}" if self.metric else text


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy rule that looks up packets in a table."""

    family: int
    """AF_INET or AF_INET6."""
    priority: int
    """Preference; rules with lower ones come first."""
    table: int
    """Routing table."""
    to: str | None = None
    """Destination of the packets, ``10.88.7.1/32``; None: any."""
    iif: str | None = None
    """Interface from which the packets come, ``lo`` for those that the namespace sends; None: any."""
    oif: str | None = None
    """Interface to which the sender is bound; None: any."""
    other: bool = False
    """True for a rule with further conditions or another action."""

    def __str__(self) -> str:
        table = "local" if self.table == abi.RT_TABLE_LOCAL else str(self.table)
        words = [f"{self.priority}: from all"]
        for word, value in (("to", self.to), ("iif", self.iif), ("oif", self.oif)):
            words += [] if value is None else [word, value]
        return " ".join([*words, "lookup", table])


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


def add_address(index: int, address: Address) -> NetlinkRequest:
    """Add an address."""
    return _address(index, address, abi.RTM_NEWADDR, _CREATE)


def remove_address(index: int, address: Address) -> NetlinkRequest:
    """Remove an address."""
    return _address(index, address, abi.RTM_DELADDR, 0)


def add_route(index: int, route: Route) -> NetlinkRequest:
    """Add a route to the main table, as ``ip route add`` does."""
    scope = abi.RT_SCOPE_UNIVERSE if route.via or _family(route) == socket.AF_INET6 else abi.RT_SCOPE_LINK
    return _route(index, route, abi.RTM_NEWROUTE, _CREATE, (abi.RTPROT_STATIC, scope, abi.RTN_UNICAST))


def add_network_route(index: int, route: Route, address: Address) -> NetlinkRequest:
    """Add the ``route`` to the network of a device's address, as the kernel adds it with the address.

    The kernel removes it with the address. Another device may have a route to the same network.
    """
    is_ipv4 = _family(route) == socket.AF_INET
    scope = abi.RT_SCOPE_LINK if is_ipv4 else abi.RT_SCOPE_UNIVERSE
    payload = _route_payload(index, route, (abi.RTPROT_KERNEL, scope, abi.RTN_UNICAST))
    if is_ipv4:
        payload += attribute(abi.RTA_PREFSRC, ipaddress.ip_interface(address.address).ip.packed)
    flags = abi.NLM_F_CREATE | abi.NLM_F_APPEND
    return NetlinkRequest(f"route {route}", abi.RTM_NEWROUTE, flags, payload, _ROUTE)


def remove_route(index: int, route: Route) -> NetlinkRequest:
    """Remove a route from the main table, whichever program added it."""
    return _route(index, route, abi.RTM_DELROUTE, 0, (abi.RTPROT_UNSPEC, abi.RT_SCOPE_NOWHERE, 0))


def accept_local(index: int, wanted: bool) -> NetlinkRequest:
    """Accept IPv4 packets from the namespace's own addresses, or refuse them, as the kernel does by default.

    The kernel's sysctl of this name, for one device.
    """
    value = attribute(abi.IPV4_DEVCONF_ACCEPT_LOCAL, INT.pack(wanted))
    nested = attribute(abi.IFLA_AF_SPEC, attribute(socket.AF_INET, attribute(abi.IFLA_INET_CONF, value)))
    return _set(f"accept_local {int(wanted)}", index, nested)


def add_policy_route(index: int, route: Route, table: int) -> NetlinkRequest:
    """Add the route of a policy table that leads packets for one of a device's own addresses to the device.

    The address is also the source of IPv4 packets, which would otherwise be the device's first one. An IPv6
    packet has it in any case, and the kernel refuses one that is still tentative.
    """
    family = _family(route)
    payload = _route_payload(index, route, (abi.RTPROT_STATIC, abi.RT_SCOPE_UNIVERSE, abi.RTN_UNICAST))
    if family == socket.AF_INET:
        host = ipaddress.ip_network(route.to).network_address
        payload += attribute(abi.RTA_PREFSRC, host.packed)
    payload += attribute(abi.RTA_TABLE, _UNSIGNED.pack(table))
    subject = f"route {route} table {table}"
    return NetlinkRequest(subject, abi.RTM_NEWROUTE, _CREATE, payload, _ROUTE)


def add_rule(rule: Rule) -> NetlinkRequest:
    """Add a policy rule."""
    return _rule(rule, abi.RTM_NEWRULE, _CREATE)


def remove_rule(rule: Rule) -> NetlinkRequest:
    """Remove a policy rule."""
    return _rule(rule, abi.RTM_DELRULE, 0)


def as_described(subject: str, kind: int, message: bytes) -> NetlinkRequest:
    """Add or remove an object by the message in which the kernel described it; ``kind`` is RTM_*."""
    flags = _CREATE if kind in (abi.RTM_NEWADDR, abi.RTM_NEWROUTE) else 0
    if kind == abi.RTM_NEWROUTE and message[0] == socket.AF_INET6:
        # It may have been one of several routes to the same network.
        flags = abi.NLM_F_CREATE | abi.NLM_F_APPEND
    return NetlinkRequest(subject, kind, flags, message)


def _set(
    subject: str, index: int, attributes: bytes, explanations: Mapping[int, str] = MappingProxyType({})
) -> NetlinkRequest:
    message = LINK.pack(0, 0, index, 0, 0) + attributes
    return NetlinkRequest(subject, abi.RTM_SETLINK, 0, message, explanations)


def _name(wanted: str) -> bytes:
    return attribute(abi.IFLA_IFNAME, raw(wanted) + b"\0")


def _group(number: int) -> bytes:
    return attribute(abi.IFLA_GROUP, INT.pack(number))


def _address(index: int, address: Address, kind: int, flags: int) -> NetlinkRequest:
    interface = ipaddress.ip_interface(address.address)
    family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
    length = interface.network.prefixlen
    own = peer = interface.ip.packed
    if address.peer is not None:
        peer = ipaddress.ip_address(address.peer).packed
    flag = abi.IFA_F_NODAD if address.nodad and interface.version == 6 else 0
    message = ADDRESS.pack(family, length, flag, abi.RT_SCOPE_UNIVERSE, index)
    message += attribute(abi.IFA_LOCAL, own) + attribute(abi.IFA_ADDRESS, peer)
    explanations = _ADDRESS if interface.version == 4 else _ADDRESS_IPV6
    return NetlinkRequest(f"address {address}", kind, flags, message, explanations)


def _family(route: Route) -> socket.AddressFamily:
    address = route.via if route.to == "default" else route.to.partition("/")[0]
    version = 4 if address is None else ipaddress.ip_address(address).version
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _route(index: int, route: Route, kind: int, flags: int, header: tuple[int, int, int]) -> NetlinkRequest:
    """``header``: the protocol, scope and type of struct rtmsg."""
    return NetlinkRequest(f"route {route}", kind, flags, _route_payload(index, route, header), _ROUTE)


def _route_payload(index: int, route: Route, header: tuple[int, int, int]) -> bytes:
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
    if route.metric:
        message += attribute(abi.RTA_PRIORITY, _UNSIGNED.pack(route.metric))
    return message


def _rule(rule: Rule, kind: int, flags: int) -> NetlinkRequest:
    length, attributes = 0, b""
    if rule.to is not None:
        network = ipaddress.ip_network(rule.to)
        length = network.prefixlen
        attributes += attribute(abi.FRA_DST, network.network_address.packed)
    for key, name in ((abi.FRA_IIFNAME, rule.iif), (abi.FRA_OIFNAME, rule.oif)):
        if name is not None:
            attributes += attribute(key, raw(name) + b"\0")
    attributes += attribute(abi.FRA_PRIORITY, _UNSIGNED.pack(rule.priority))
    attributes += attribute(abi.FRA_TABLE, _UNSIGNED.pack(rule.table))
    header = ROUTE.pack(rule.family, length, 0, 0, 0, 0, 0, abi.FR_ACT_TO_TBL, 0)
    return NetlinkRequest(f"rule {rule}", kind, flags, header + attributes)
