"""What one value of the configuration may be, and what a person is told when it is not.

Each reader takes a value as tomllib gives it (or one it has read before) and returns it checked, or
raises ValueError with one line that repeats the value and says what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, time
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
from pathlib import Path
from typing import Final, Literal

from epaird.names import grammar as names
from epaird.names import mac
from epaird.names.grammar import quoted

Location = tuple[str | int, ...]
"""Where a value stands in the file: ``("epair", "epair0", "a", "addresses", 1)``."""

SUN_PATH_MAX: Final = 107
"""Bytes of a UNIX socket's path (linux/un.h, without the NUL)."""

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_LABEL: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_LOOKS_NUMERIC: Final = re.compile(r"[0-9.]+")
_SHOWN_DIGITS: Final = 40
_QUOTES: Final = "{} is text, leave the quotes out"


def dotted(location: Location) -> str:
    """A location as TOML writes it: ``epair.epair0.a.addresses[1]``."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if _BARE_KEY.fullmatch(part) else quoted(part)
            text += f".{key}" if text else key
    return text


def shown(value: object) -> str:
    """A value as one line of a message repeats it."""
    match value:
        case str():
            return quoted(value)
        case bool():
            return "true" if value else "false"
        case int():
            # Python refuses to write very large numbers in decimal.
            digits = str(value) if value.bit_length() < 1024 else hex(value)
            return digits if len(digits) <= _SHOWN_DIGITS else digits[:_SHOWN_DIGITS] + "..."
        case float():
            return str(value)
        case list() | tuple():
            return "a list"
        case dict():
            return "a table"
        case date() | time():
            return f"the date or time {value}"
        case _:
            return quoted(str(value))


@dataclass(frozen=True, slots=True)
class WholeNumber:
    """A reader of whole numbers from ``least`` to ``most``, both included."""

    least: int
    most: int
    lower_limit: str = ""
    """What ``least`` is, for a person: ``a TAP's 68``."""
    upper_limit: str = ""
    """What ``most`` is."""

    @property
    def allowed(self) -> str:
        """What may stand there, for a person."""
        return f"a whole number from {self.least} to {self.most}"

    def __call__(self, value: object) -> int:
        """The number; raises ValueError."""
        if isinstance(value, bool) or not isinstance(value, int):
            if isinstance(value, str) and value.isascii() and value.isdecimal():
                raise ValueError(_QUOTES.format(shown(value)))
            raise ValueError(f"{shown(value)} is not {self.allowed}")
        if value < self.least:
            limit = self.lower_limit or f"{self.least}, the least allowed"
            raise ValueError(f"{shown(value)} is less than {limit}")
        if value > self.most:
            limit = self.upper_limit or f"{self.most}, the most allowed"
            raise ValueError(f"{shown(value)} is more than {limit}")
        return value


@dataclass(frozen=True, slots=True)
class Seconds:
    """A reader of durations from ``least`` to ``most`` seconds, both included, and of 0 for none."""

    least: float
    most: float

    def __call__(self, value: object) -> float:
        """The duration; raises ValueError."""
        allowed = f"a number of seconds from {self.least:g} to {self.most:g}, or 0"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{shown(value)} is not {allowed}")
        if value != 0 and not self.least <= value <= self.most:  # not so of a NaN either
            raise ValueError(f"{shown(value)} is not {allowed}")
        return float(value)


def number_or(word: str, number: WholeNumber) -> Callable[[object], int | str]:
    """A reader that takes a word instead of a number."""

    def read(value: object) -> int | str:
        if value == word:
            return word
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f'{shown(value)} is not "{word}" or {number.allowed}')
        return number(value)

    return read


def one_of(*words: str) -> Callable[[object], str]:
    """A reader of one word out of a few."""
    allowed = ", ".join(words[:-1]) + " or " + words[-1]

    def read(value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        raise ValueError(f"{shown(value)} is not {allowed}")

    return read


def boolean(value: object) -> bool:
    """true or false, and nothing that merely means it."""
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        raise ValueError(_QUOTES.format(shown(value)))
    raise ValueError(f"{shown(value)} is not true or false")


def device_name(value: object) -> str:
    """A name for a device in a namespace, where ``lo`` is taken from the start."""
    name = names.check_device_name(_text(value, 'a device\'s name, as in "eth0"'))
    if name == "lo":
        raise ValueError('"lo" is taken: every namespace has a lo of its own')
    return name


def namespace_name(value: object) -> str:
    """A name that ``ip netns`` accepts."""
    return names.check_namespace_name(_text(value, 'a namespace\'s name, as in "red"'))


def namespace(value: object) -> str:
    """A namespace by name, or by the absolute path of its file."""
    text = _text(value, 'a namespace\'s name, as in "red", or its path')
    if not text:
        raise ValueError('"" names no namespace, leave the key out for the daemon\'s own')
    if "/" not in text:
        return names.check_namespace_name(text)
    return _absolute_path(text)


def socket_path(value: object) -> Path:
    """An absolute path that a UNIX socket can have."""
    text = str(value) if isinstance(value, Path) else value
    path = _absolute_path(_text(text, 'a path, as in "/run/epaird/control.sock"'))
    length = len(path.encode())
    if length > SUN_PATH_MAX:
        raise ValueError(f"{quoted(path)} has {length} bytes, a socket's path has at most {SUN_PATH_MAX}")
    return Path(path)


def hardware_address(value: object) -> str:
    """A hardware address in its one form."""
    return mac.parse(_text(value, 'a hardware address, as in "02:5d:11:22:33:0a"'))


def hardware_address_or_stable(value: object) -> str:
    """A hardware address in its one form, or the word ``stable``."""
    return value if value == "stable" and isinstance(value, str) else hardware_address(value)


def interface_address(value: object) -> IPv4Interface | IPv6Interface:
    """An address with its network's prefix length, of the kind that an interface can have."""
    allowed = 'an address with its prefix length, as in "10.0.0.1/24" or "fd00::1/64"'
    if isinstance(value, (IPv4Interface, IPv6Interface)):
        return interface_address(str(value))
    text = _text(value, allowed)
    host, slash, prefix = text.partition("/")
    address = _address(host, text, allowed)
    _refuse_zone(address, text)
    if not slash:
        usual = 24 if address.version == 4 else 64
        raise ValueError(f"{quoted(text)} has no prefix length, as in {quoted(f'{text}/{usual}')}")
    interface = _with_prefix(address, prefix, text)
    _refuse_unusable(interface.ip, text)
    network = interface.network
    if network.prefixlen < network.max_prefixlen - 1:
        if interface.ip == network.network_address:
            raise ValueError(f"{quoted(text)} is the network itself, its first address is {network[1]}")
        if address.version == 4 and interface.ip == network.broadcast_address:
            raise ValueError(f"{quoted(text)} is its network's broadcast address")
    return interface


def destination(value: object) -> IPv4Network | IPv6Network | Literal["default"]:
    """Where a route leads: a network, one address, or ``default``."""
    allowed = '"default" or a network, as in "10.1.0.0/16"'
    if value == "default":
        return "default"
    if isinstance(value, (IPv4Network, IPv6Network)):
        return value
    text = _text(value, allowed)
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
    """The address of a router."""
    allowed = 'the address of the next hop, as in "10.0.0.2"'
    if isinstance(value, (IPv4Address, IPv6Address)):
        return value
    text = _text(value, allowed)
    if "/" in text:
        raise ValueError(f"{quoted(text)} has a prefix length, the next hop is one address")
    address = _address(text, text, allowed)
    _refuse_zone(address, text)
    _refuse_unusable(address, text)
    return address


def listen_address(value: object) -> str:
    """``host:port``, ``[::1]:port``, or nothing.  Port 0 is one that happens to be free."""
    text = _text(value, 'an address and a port, as in "127.0.0.1:9862", or "" for none')
    if text:
        split_listen(text)
    return text


def split_listen(text: str) -> tuple[str, int]:
    """The host, without brackets, and the port of a ``listen`` that is not empty; raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        raise ValueError(f"{quoted(text)} has no port, as in {quoted(text + ':9862')}")
    if not host:
        raise ValueError(f'{quoted(text)} has no address, "0.0.0.0:{port}" and "[::]:{port}" mean every one')
    if _decimal(port, 65535) is None:
        raise ValueError(f"{quoted(text)}: {quoted(port)} is not a port, 0 to 65535")
    if ":" in host and _is_address(host, IPv6Address):
        raise ValueError(f"{quoted(text)}: an IPv6 address stands in brackets, {quoted(f'[{host}]:{port}')}")
    return _host(host, text), int(port)


def list_of(example: str) -> Callable[[object], object]:
    """A reader that tells a list from anything else; its members are read on their own."""

    def read(value: object) -> object:
        if isinstance(value, (list, tuple)):
            return value
        hint = f", write [{shown(value)}]" if isinstance(value, str) and value else f", as in {example}"
        raise ValueError(f"{shown(value)} is not a list{hint}")

    return read


def _text(value: object, allowed: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not {allowed}")
    return value


def _absolute_path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError(f"{quoted(text)} is not an absolute path, it must start with /")
    if not text.isprintable():
        raise ValueError(f"{quoted(text)} has a character in it that does not print")
    return text


def _address(host: str, text: str, allowed: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(host)
    except ValueError:
        raise ValueError(f"{quoted(text)} is not {allowed}") from None


def _with_prefix(address: IPv4Address | IPv6Address, prefix: str, text: str) -> IPv4Interface | IPv6Interface:
    # Netmasks are left out: ipaddress would also take a mask's complement for one.
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
        sound, what = _is_address(host, IPv6Address), "an IPv6 address"
    elif _LOOKS_NUMERIC.fullmatch(host):
        sound, what = _is_address(host, IPv4Address), "an IPv4 address"
    else:
        sound = len(host) <= 253 and all(map(_LABEL.fullmatch, host.split(".")))
        what = "an address or a host's name"
    if not sound:
        raise ValueError(f"{quoted(text)}: {quoted(host)} is not {what}")
    return host


def _decimal(digits: str, most: int) -> int | None:
    """A number from 0 to ``most`` in plain decimal digits, or None."""
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


def _refuse_unusable(address: IPv4Address | IPv6Address, text: str) -> None:
    """Refuse what no interface can have and no next hop can be."""
    for applies, what in (
        (address.is_multicast, "a group's address"),
        (address.is_unspecified, "no address, only a placeholder for one"),
        (address.is_loopback, "a loopback address, it belongs to lo"),
        (address == IPv4Address("255.255.255.255"), "the broadcast address"),
    ):
        if applies:
            raise ValueError(f"{quoted(text)} is {what}")


def peer(value: object) -> str:
    """The name of a half, or nothing for an unplugged one; raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f'{shown(value)} is not a half\'s name, as in "epair1b", or "" for none')
    if value:
        names.half_of(value)
    return value
