"""Values of the configuration that are IP addresses, networks, or addresses to listen on.

Readers as in ``epaird.config.values``: each takes a value and returns it checked, or raises ValueError with
one line that repeats the value and gives the allowed values.
"""

from __future__ import annotations

import re
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final, Literal

from epaird.config.values import text_of
from epaird.names.grammar import quoted

_LABEL: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_LOOKS_NUMERIC: Final = re.compile(r"[0-9.]+")


def interface_address(value: object) -> IPv4Interface | IPv6Interface:
    """Read an address that an interface can have, with the prefix length of its network."""
    allowed = 'an address with its prefix length, as in "10.0.0.1/24" or "fd00::1/64"'
    if isinstance(value, (IPv4Interface, IPv6Interface)):
        return interface_address(str(value))
    text = text_of(value, allowed)
    host, slash, prefix = text.partition("/")
    address = _address(host, text, allowed)
    _refuse_zone(address, text)
    if not slash:
        usual = 24 if address.version == 4 else 64
        raise ValueError(f"{quoted(text)} has no prefix length, as in {quoted(f'{text}/{usual}')}")
    interface = _with_prefix(address, prefix, text)
    _refuse_unusable(interface.ip, text)
    _refuse_no_host(interface, text)
    return interface


def peer_address(
    value: object, own: IPv4Interface | IPv6Interface | None = None
) -> IPv4Address | IPv6Address:
    """Read the address at the other end of a point-to-point link, for an interface's ``own`` address.

    The kernel stores one prefix length, that of ``own``; a peer may repeat it."""
    allowed = 'the address at the other end, as in "10.0.0.2"'
    text = str(value) if isinstance(value, (IPv4Address, IPv6Address)) else text_of(value, allowed)
    host, slash, prefix = text.partition("/")
    address = _address(host, text, allowed)
    _refuse_zone(address, text)
    _refuse_unusable(address, text)
    if own is None:
        return address
    if address.version != own.version:
        raise ValueError(f"{quoted(text)} is not an IPv{own.version} address, as {own} is")
    length = own.network.prefixlen
    if slash and _with_prefix(address, prefix, text).network.prefixlen != length:
        raise ValueError(f"{quoted(text)} has another prefix length than {own}, leave it out here")
    if address == own.ip:
        raise ValueError(f"{quoted(text)} is the own address, a peer has another one")
    if address.version == 4:
        _refuse_no_host(IPv4Interface((address, length)), text)
    return address


def destination(value: object) -> IPv4Network | IPv6Network | Literal["default"]:
    """Read the destination of a route: a network, one address, or ``default``."""
    allowed = '"default" or a network, as in "10.1.0.0/16"'
    if value == "default":
        return "default"
    if isinstance(value, (IPv4Network, IPv6Network)):
        return value
    text = text_of(value, allowed)
    host, slash, prefix = text.partition("/")
    address = _address(host, text, allowed)
    _refuse_zone(address, text)
    if not slash:
        return ip_network(address)
    interface = _with_prefix(address, prefix, text)
    if interface.ip != interface.network.network_address:
        raise ValueError(f"{quoted(text)} is one address of a network, the network is {interface.network}")
    return interface.network


def next_hop(value: object) -> IPv4Address | IPv6Address:
    """Read the address of a router."""
    allowed = 'the address of the next hop, as in "10.0.0.2"'
    if isinstance(value, (IPv4Address, IPv6Address)):
        return value
    text = text_of(value, allowed)
    if "/" in text:
        raise ValueError(f"{quoted(text)} has a prefix length, the next hop is one address")
    address = _address(text, text, allowed)
    _refuse_zone(address, text)
    _refuse_unusable(address, text)
    return address


def listen_address(value: object) -> str:
    """Read ``host:port``, ``[::1]:port``, or an empty text. Port 0 is any free port."""
    text = text_of(value, 'an address and a port, as in "127.0.0.1:9862", or "" for none')
    if text:
        split_listen(text)
    return text


def split_listen(text: str) -> tuple[str, int]:
    """Return the host, without brackets, and the port of a non-empty ``listen``; raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        raise ValueError(f"{quoted(text)} has no port, as in {quoted(text + ':9862')}")
    if not host:
        raise ValueError(f'{quoted(text)} has no address, "0.0.0.0:{port}" and "[::]:{port}" mean every one')
    if _decimal(port, 65535) is None:
        raise ValueError(f"{quoted(text)}: {quoted(port)} is not a port, 0 to 65535")
    if ":" in host and _is_address(host, IPv6Address):
        raise ValueError(f"{quoted(text)}: an IPv6 address needs brackets, {quoted(f'[{host}]:{port}')}")
    return _host(host, text), int(port)


def _address(host: str, text: str, allowed: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(host)
    except ValueError:
        raise ValueError(f"{quoted(text)} is not {allowed}") from None


def _with_prefix(address: IPv4Address | IPv6Address, prefix: str, text: str) -> IPv4Interface | IPv6Interface:
    # Netmasks are refused: ipaddress would also accept the complement of a mask.
    length = _decimal(prefix, address.max_prefixlen)
    if length is None:
        raise ValueError(
            f"{quoted(text)}: {quoted(prefix)} is not a prefix length of IPv{address.version}, "
            f"0 to {address.max_prefixlen}"
        )
    if isinstance(address, IPv4Address):
        return IPv4Interface((address, length))
    return IPv6Interface((address, length))


def _host(host: str, text: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        sound, expected = _is_address(host, IPv6Address), "an IPv6 address"
        if sound:
            _refuse_unbindable(IPv6Address(host), text)
    elif _LOOKS_NUMERIC.fullmatch(host):
        sound, expected = _is_address(host, IPv4Address), "an IPv4 address"
    else:
        sound = len(host) <= 253 and all(map(_LABEL.fullmatch, host.split(".")))
        expected = "an address or a host's name"
    if not sound:
        raise ValueError(f"{quoted(text)}: {quoted(host)} is not {expected}")
    return host


def _decimal(digits: str, most: int) -> int | None:
    """Return the number from 0 to ``most`` in plain decimal digits, or None for anything else."""
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > len(str(most)):
        return None
    number = int(digits)
    return number if number <= most else None


def _is_address(host: str, kind: type[IPv4Address] | type[IPv6Address]) -> bool:
    try:
        kind(host)
    except ValueError:
        return False
    return True


def _refuse_zone(address: IPv4Address | IPv6Address, text: str) -> None:
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise ValueError(f"{quoted(text)} has a zone (%), the half itself is the zone here")


def _refuse_no_host(interface: IPv4Interface | IPv6Interface, text: str) -> None:
    """Refuse the first address of a network, and the last one of IPv4, which no interface can have."""
    network = interface.network
    if network.prefixlen < network.max_prefixlen - 1:
        if interface.ip == network.network_address:
            raise ValueError(f"{quoted(text)} is the network itself, its first address is {network[1]}")
        if interface.version == 4 and interface.ip == network.broadcast_address:
            raise ValueError(f"{quoted(text)} is its network's broadcast address")


def _refuse_unusable(address: IPv4Address | IPv6Address, text: str) -> None:
    """Refuse an address that neither an interface, its peer nor a next hop can have."""
    for applies, meaning in (
        (address.is_multicast, "a group's address"),
        (address.is_unspecified, "no address, only a placeholder for one"),
        (address.is_loopback, "a loopback address, it belongs to lo"),
        (address == IPv4Address("255.255.255.255"), "the broadcast address"),
    ):
        if applies:
            raise ValueError(f"{quoted(text)} is {meaning}")


def _refuse_unbindable(address: IPv6Address, text: str) -> None:
    """Refuse an address on which no socket can listen."""
    if address.is_link_local and address.scope_id is None:
        raise ValueError(f"{quoted(text)} is a link-local address, which needs its interface: fe80::1%eth0")
    if address.ipv4_mapped is not None:
        raise ValueError(f"{quoted(text)} is an IPv4 address, write {quoted(str(address.ipv4_mapped))}")
