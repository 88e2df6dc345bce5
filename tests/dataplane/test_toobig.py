"""The answer to a packet that is too long, against scapy."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from epaird.dataplane.frames import HEADER
from epaird.dataplane.toobig import too_big

ETHER = Ether(src="02:00:00:00:00:0a", dst="02:00:00:00:00:0b")
V4 = IP(src="10.0.0.1", dst="10.0.0.2", flags="DF")
V6 = IPv6(src="fd00::1", dst="fd00::2")
LOAD = Raw(bytes(range(250)) * 28)


def answer(packet: Packet, mtu: int = 1500) -> Packet | None:
    found = too_big(memoryview(bytes(HEADER) + bytes(packet)), mtu)
    if found is None:
        return None
    assert found[:HEADER] == bytes(HEADER)
    return Ether(found[HEADER:])


@pytest.mark.parametrize("inner", [UDP() / LOAD, TCP() / LOAD, ICMP() / LOAD], ids=["udp", "tcp", "ping"])
def test_ipv4(inner: Packet) -> None:
    sent = ETHER / V4 / inner
    found = answer(sent)
    assert found is not None
    assert (found.src, found.dst) == (ETHER.dst, ETHER.src)
    ip, icmp = found[IP], found[ICMP]
    assert (ip.src, ip.dst) == ("10.0.0.2", "10.0.0.1")
    assert (icmp.type, icmp.code, icmp.nexthopmtu) == (3, 4, 1500)
    assert len(found) == 14 + 576
    assert bytes(found)[14 + 20 + 8 :] == bytes(sent[IP])[:548]
    # scapy computes what is deleted: the checksums were right.
    for layer in (IP, ICMP):
        before = found[layer].chksum
        again = Ether(bytes(found))
        del again[layer].chksum
        assert Ether(bytes(again))[layer].chksum == before


@pytest.mark.parametrize(
    "inner", [UDP() / LOAD, TCP() / LOAD, ICMPv6EchoRequest() / LOAD], ids=["udp", "tcp", "ping"]
)
def test_ipv6(inner: Packet) -> None:
    sent = ETHER / V6 / inner
    found = answer(sent)
    assert found is not None
    ip, icmp = found[IPv6], found[ICMPv6PacketTooBig]
    assert (ip.src, ip.dst, icmp.mtu) == ("fd00::2", "fd00::1", 1500)
    assert len(found) == 14 + 1280
    assert bytes(found)[14 + 40 + 8 :] == bytes(sent[IPv6])[:1232]
    before = icmp.cksum
    del icmp.cksum
    assert Ether(bytes(found))[ICMPv6PacketTooBig].cksum == before


@pytest.mark.parametrize(
    "packet",
    [
        ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / UDP() / LOAD,
        ETHER / IP(src="10.0.0.1", dst="10.0.0.2", flags="DF", frag=3) / LOAD,
        ETHER / V4 / ICMP(type=3, code=4) / LOAD,
        ETHER / V6 / ICMPv6PacketTooBig() / LOAD,
        ETHER / Dot1Q(vlan=7) / V4 / UDP() / LOAD,
        Ether(dst="ff:ff:ff:ff:ff:ff") / V4 / UDP() / LOAD,
        Ether(type=0x88B5) / LOAD,
    ],
    ids=["no DF", "fragment", "an ICMP error", "an ICMPv6 error", "tagged", "broadcast", "no IP"],
)
def test_packets_that_are_not_answered(packet: Packet) -> None:
    assert answer(packet) is None


def test_an_mtu_below_the_minimum_is_not_reported() -> None:
    assert answer(ETHER / V6 / UDP() / LOAD, 1279) is None
    assert answer(ETHER / V4 / UDP() / LOAD, 67) is None


@pytest.mark.parametrize("length", range(70))
def test_short_frames_are_no_problem(length: int) -> None:
    whole = bytes(HEADER) + bytes(ETHER / V6 / UDP() / LOAD)
    too_big(memoryview(whole[:length]), 1500)
