"""Values at the edges of what the configuration permits, to compare it with the kernel.

Routes and the length of the ring have tests of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Document = dict[str, Any]

NAMES = (
    "tür", "e€", "a" * 15, "ü" * 7, "☃", "-x", "lo0", "eth0@x", "a'b", 'a"b', "\\", "a.b", "a=b", "#", "1",
    "0x1", "...", "a,b", "epair", "\ufffd", "a\u0301",
)  # fmt: skip
ADDRESSES = (
    "0.0.0.1/8", "0.1.2.3/32", "240.0.0.1/24", "255.255.255.254/31", "10.0.0.1/0", "10.0.0.1/1",
    "10.0.0.0/31", "10.0.0.1/32", "169.254.0.1/16", "100.64.0.1/10", "192.0.2.254/24", "1.0.0.1/8",
    "255.0.0.1/8", "128.0.0.1/1",
    "223.255.255.255/32", "0.0.0.1/0", "126.255.255.254/8", "128.0.0.1/2", "::ffff:10.0.0.1/96",
    "::ffff:10.0.0.1/128", "::10.0.0.1/96", "::2/128", "2002::1/16", "2001:db8::1/0", "fe80::1/64",
    "fe80::1/128", "fec0::1/64", "fe80::1/10", "fd00::/127", "fd00::/128", "fd00::1/127", "64:ff9b::1/96",
    "100::1/64", "fd00::1/1", "::1:1/112", "fd00::ffff:ffff:ffff:ffff/64", "2001:10::1/28", "::ffff:0:1/96",
)  # fmt: skip
MACS = ("00:00:00:00:00:01", "02:00:00:00:00:00", "fe:ff:ff:ff:ff:ff", "stable")


def half(**keys: object) -> Document:
    """Return a configuration of a pair; ``keys`` are those of one half."""
    return {"epair": {"epair9": {"a": keys}}}


def loopback(**keys: object) -> Document:
    """Return a configuration of a loopback."""
    return {"lo": {"lo9": keys}}


def halves(first: dict[str, object], second: dict[str, object]) -> Document:
    """Return a configuration of two pairs; each table is of one half."""
    return {"epair": {"epair8": {"a": first}, "epair9": {"a": second}}}


def documents() -> Iterator[Document]:
    """Yield configurations at the edges, some of which are refused."""
    yield from (half(name=name) for name in NAMES)
    yield from (loopback(name=name) for name in NAMES)
    for address in ADDRESSES:
        yield half(addresses=[address])
        yield loopback(addresses=[address])
        yield loopback(addresses=[address], mode="verbatim", policy_routing=True)
    yield from (half(mac=mac) for mac in MACS)
    for mtu in (67, 68, 575, 576, 1279, 1280, 65521, 65522, 65535, 65536):
        for make in (half, loopback):
            yield make(mtu=mtu)
            yield make(mtu=mtu, addresses=["10.9.0.1/24"])
            yield make(mtu=mtu, addresses=["fd09::1/64"])
    yield from ({"epair": {"epair9": {"queues": queues}}} for queues in (1, 2, 255, 256, 257))
    yield from (half(sndbuf=octets) for octets in (4095, 4096, 2**31 - 1, 2**31))
    yield from ({"epair": {f"epair{unit}": {}}} for unit in (32767, 32768, 2**31, 2**32, 999_999_999))
    for unit in (32767, 65535, 65536, 2**31, 2**32, 9_999_999_999_999):
        yield {
            "lo": {f"lo{unit}": {"mode": "verbatim", "policy_routing": True, "addresses": ["10.9.0.1/24"]}}
        }
    yield from _several()


def _several() -> Iterator[Document]:
    """Yield configurations of values that may exclude each other."""
    yield half(addresses=["::ffff:10.0.0.1/128", "10.0.0.1/32"])
    yield half(addresses=["10.0.0.1/24", "10.0.0.1/25"])
    yield half(addresses=["fd00::1/64", "fd00::1/65"])
    yield half(addresses=["fd00::1/64", "fd00:0::0001/64"])
    yield half(addresses=[f"10.{number}.0.1/24" for number in range(256)])
    for make in (halves, lambda first, second: {"epair": {"epair9": {"a": first, "b": second}}}):
        yield make({"addresses": ["fe80::1/64"]}, {"addresses": ["fe80::1/64"]})
        yield make({"addresses": ["169.254.1.1/16"]}, {"addresses": ["169.254.1.1/16"]})
        yield make({"mac": "stable"}, {"mac": "stable"})
        yield make({"mac": "02:00:00:00:00:01"}, {"mac": "02:00:00:00:00:01"})
