"""The quotes of ICMP errors that a reflector returns, against scapy."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
)
from scapy.packet import Packet, Raw

from epaird.dataplane.frames import HEADER
from epaird.dataplane.quotes import reflect_quote4, reflect_quote6
from epaird.kernel.abi import VIRTIO_NET_HDR, VIRTIO_NET_HDR_F_NEEDS_CSUM

OWNER, MIRRORED, OTHER = "10.88.7.1", "10.88.7.9", "10.99.0.5"
OWNER6, MIRRORED6, OTHER6 = "fd88::1", "fd88::9", "fd99::5"

Reflect = Callable[[memoryview], None]


def reflected(reflect: Reflect, packet: Packet, virtio: bytes = bytes(HEADER)) -> Packet:
    """Return a packet, whose own addresses are swapped already, after its quote was reflected."""
    frame = bytearray(virtio + bytes(packet))
    reflect(memoryview(frame))
    return type(packet)(bytes(frame[HEADER:]))


def with_sums(packet: Packet) -> bytes:
    """Return a packet with the checksums that scapy computes; those of what is quoted stay."""
    again = type(packet)(bytes(packet))
    if IP in again:
        del again[IP].chksum, again[ICMP].chksum
    else:
        del again[IPv6].payload.cksum
    return bytes(again)


INNER = {
    "udp": UDP(sport=40000, dport=4999) / Raw(b"question"),
    "tcp": TCP(sport=40000, dport=80),
    "ping": ICMP(id=7, seq=1) / Raw(b"echo"),
}


@pytest.mark.parametrize("inner", INNER.values(), ids=INNER)
@pytest.mark.parametrize(("kind", "code"), [(3, 3), (3, 4), (4, 0), (5, 1), (11, 0), (12, 0)])
@pytest.mark.parametrize("options", [[], [IPOption_NOP()] * 4])
def test_ipv4(inner: Packet, kind: int, code: int, options: list[Packet]) -> None:
    error = IP(src=MIRRORED, dst=OWNER, options=options) / ICMP(type=kind, code=code)
    quoted = IP(src=MIRRORED, dst=OWNER, ttl=9, options=options) / inner
    found = reflected(reflect_quote4, error / quoted)
    assert (found.src, found.dst) == (MIRRORED, OWNER)
    # What the owner sent: its own ports, from itself.
    sent = IP(src=OWNER, dst=MIRRORED, ttl=9, options=options) / inner
    assert bytes(found[ICMP].payload) == bytes(sent)
    assert bytes(found) == with_sums(found)


@pytest.mark.parametrize(
    "inner", [INNER["udp"], INNER["tcp"], ICMPv6EchoRequest(id=7)], ids=["udp", "tcp", "ping"]
)
@pytest.mark.parametrize(
    "error",
    [ICMPv6DestUnreach(code=4), ICMPv6PacketTooBig(mtu=1280), ICMPv6TimeExceeded(), ICMPv6ParamProblem()],
)
def test_ipv6(inner: Packet, error: Packet) -> None:
    quoted = IPv6(src=MIRRORED6, dst=OWNER6, hlim=9) / inner
    found = reflected(reflect_quote6, IPv6(src=MIRRORED6, dst=OWNER6) / error / quoted)
    assert (found.src, found.dst) == (MIRRORED6, OWNER6)
    assert bytes(found[type(error)].payload) == bytes(IPv6(src=OWNER6, dst=MIRRORED6, hlim=9) / inner)
    assert bytes(found) == with_sums(found)


@given(st.ip_addresses(v=4).filter(lambda each: not each.is_multicast), st.ip_addresses(v=4))
@example("223.255.255.255", "10.0.0.1")
@example("240.0.0.1", "10.0.0.1")
def test_an_error_of_a_router_goes_to_the_host_whose_packet_was_reflected(
    host: object, router: object
) -> None:
    packet = (
        IP(src=MIRRORED, dst=str(router)) / ICMP(type=11) / IP(src=MIRRORED, dst=str(host)) / INNER["udp"]
    )
    found = reflected(reflect_quote4, packet)
    assert (found.src, found.dst) == (MIRRORED, str(host))
    assert bytes(found[ICMP].payload) == bytes(IP(src=str(host), dst=MIRRORED) / INNER["udp"])
    assert bytes(found) == with_sums(found)


@given(st.ip_addresses(v=6).filter(lambda each: not each.is_multicast), st.ip_addresses(v=6))
def test_and_so_does_one_of_ipv6(host: object, router: object) -> None:
    quoted = IPv6(src=MIRRORED6, dst=str(host)) / INNER["udp"]
    packet = IPv6(src=MIRRORED6, dst=str(router)) / ICMPv6TimeExceeded() / quoted
    found = reflected(reflect_quote6, packet)
    assert (found.src, ip_address(found.dst)) == (MIRRORED6, host)
    assert bytes(found) == with_sums(found)


def test_an_unfinished_checksum_stays_right() -> None:
    packet = IPv6(src=MIRRORED6, dst=OWNER6) / ICMPv6TimeExceeded()
    packet /= IPv6(src=MIRRORED6, dst=OTHER6) / INNER["udp"]
    whole, virtio = bytes(packet), VIRTIO_NET_HDR.pack(VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0, 0, 40, 2)
    pseudo = sum(int.from_bytes(whole[at : at + 2]) for at in range(8, 40, 2)) + len(whole) - 40 + 58
    unfinished = whole[:42] + ((pseudo - 1) % 0xFFFF + 1).to_bytes(2) + whole[44:]
    found = bytes(reflected(reflect_quote6, IPv6(unfinished), virtio))
    # The kernel finishes it: the sum of everything from the ICMPv6 header on, complemented.
    total = sum(int.from_bytes((found + b"\0")[at : at + 2]) for at in range(40, len(found), 2)) % 0xFFFF
    finished = found[:42] + (0xFFFF - (total or 0xFFFF)).to_bytes(2) + found[44:]
    assert finished == with_sums(IPv6(found))


ERROR = IP(src=MIRRORED, dst=OWNER) / ICMP(type=3, code=3)
ERROR6 = IPv6(src=MIRRORED6, dst=OWNER6) / ICMPv6DestUnreach()


@pytest.mark.parametrize(
    "packet",
    [
        IP(src=MIRRORED, dst=OWNER) / ICMP(type=8) / IP(src=MIRRORED, dst=OWNER) / INNER["udp"],
        ERROR / IP(src=OTHER, dst=OWNER) / INNER["udp"],
        ERROR / IP(src=MIRRORED, dst="224.0.0.1") / INNER["udp"],
        IP(src=MIRRORED, dst=OWNER, frag=4) / ICMP(type=3) / IP(src=MIRRORED, dst=OWNER) / INNER["udp"],
        ERROR / IPv6(src=MIRRORED6, dst=OWNER6) / INNER["udp"],
        ERROR / Raw(bytes(IP(src=MIRRORED, dst=OWNER))[:19]),
        ERROR6 / IPv6(src=OTHER6, dst=OWNER6) / INNER["udp"],
        ERROR6 / IPv6(src=MIRRORED6, dst="ff02::1") / INNER["udp"],
        ERROR6 / Raw(bytes(IPv6(src=MIRRORED6, dst=OWNER6))[:39]),
        IPv6(src=MIRRORED6, dst=OWNER6) / ICMPv6EchoRequest() / IPv6(src=MIRRORED6, dst=OWNER6),
    ],
    ids=[
        "no error", "about another's packet", "about a multicast", "a later fragment", "another version",
        "a quote too short", "IPv6: about another's packet", "IPv6: about a multicast",
        "IPv6: a quote too short", "IPv6: no error",
    ],
)  # fmt: skip
def test_other_packets_stay_as_they_are(packet: Packet) -> None:
    reflect = reflect_quote6 if isinstance(packet, IPv6) else reflect_quote4
    assert bytes(reflected(reflect, packet)) == bytes(packet)


@pytest.mark.parametrize("group", ["224.0.0.0", "225.1.2.3", "239.255.255.255"])
def test_no_error_is_reflected_to_a_group(group: str) -> None:
    packet = ERROR / IP(src=MIRRORED, dst=group) / INNER["udp"]
    assert bytes(reflected(reflect_quote4, packet)) == bytes(packet)


@pytest.mark.parametrize(
    ("reflect", "error", "quoted"),
    [
        (reflect_quote4, ERROR, IP(src=MIRRORED, dst=OWNER, len=20)),
        (reflect_quote6, ERROR6, IPv6(src=MIRRORED6, dst=OWNER6, plen=0)),
    ],
)
def test_a_quote_of_a_header_alone_is_reflected(reflect: Reflect, error: Packet, quoted: Packet) -> None:
    found = reflected(reflect, error / quoted)
    inner = type(error)(bytes(found.payload.payload))
    assert (inner.src, inner.dst) == (quoted.dst, quoted.src)


@pytest.mark.parametrize(
    ("reflect", "packet", "shortest"),
    [
        (reflect_quote4, ERROR / IP(src=MIRRORED, dst=OWNER), 20),
        (reflect_quote4, IP(src=MIRRORED, dst=OWNER, options=[IPOption_NOP()] * 40), 20),
        (reflect_quote6, ERROR6 / IPv6(src=MIRRORED6, dst=OWNER6), 40),
    ],
)
def test_a_packet_that_ends_early_is_no_problem(reflect: Reflect, packet: Packet, shortest: int) -> None:
    whole = bytes(HEADER) + bytes(packet)
    for length in range(HEADER + shortest, len(whole)):
        frame = bytearray(whole[:length])
        reflect(memoryview(frame))
        assert frame == whole[:length]
