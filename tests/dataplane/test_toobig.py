"""The answer to a packet that is too long, against scapy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_Redirect,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Padding, Raw

from epaird.dataplane.frames import HEADER
from epaird.dataplane.links import ETHERNET_LINK
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


TAGS = {
    "802.1Q": Dot1Q(vlan=7, prio=5),
    "802.1ad": Dot1AD(vlan=7),
    "QinQ": Dot1AD(vlan=7) / Dot1Q(vlan=8),
    "802.1Q twice": Dot1Q(vlan=7) / Dot1Q(vlan=8),
    "priority": Dot1Q(vlan=0, prio=7),
}


@pytest.mark.parametrize("tags", TAGS.values(), ids=TAGS)
@pytest.mark.parametrize("inner", [V4 / UDP() / LOAD, V6 / UDP() / LOAD], ids=["IPv4", "IPv6"])
def test_the_answer_has_the_same_tags(tags: Packet, inner: Packet) -> None:
    found = answer(ETHER / tags / inner)
    assert found is not None
    plain = answer(ETHER / inner)
    assert plain is not None
    kind = type(inner)
    assert bytes(found[kind]) == bytes(plain[kind])
    sent = bytes(ETHER / tags / inner)
    after = sent.index(bytes(inner))
    assert bytes(found)[12:after] == sent[12:after]
    assert bytes(found)[:12] == sent[6:12] + sent[:6]


@pytest.mark.parametrize(("tags", "mtu"), [(0, 1500), (1, 1500), (2, 1500), (3, 1496), (4, 1492)])
def test_an_mtu_fits_behind_the_tags(tags: int, mtu: int) -> None:
    limit = ETHERNET_LINK.read_limit((1500,))
    for inner in (V4 / UDP() / LOAD, V6 / UDP() / LOAD):
        sent = ETHER
        for _ in range(tags):
            sent /= Dot1Q(vlan=7)
        found = answer(sent / inner)
        assert found is not None
        reported = found[ICMP].nexthopmtu if ICMP in found else found[ICMPv6PacketTooBig].mtu
        assert reported == mtu
        longest = memoryview(bytes(HEADER) + bytes(sent / Raw(bytes(mtu))) + bytes(100))
        assert ETHERNET_LINK.objection(longest, len(longest) - 100, limit) is None


@pytest.mark.parametrize("options", [[IPOption_NOP()] * 4, [IPOption_Router_Alert()]], ids=["no-op", "alert"])
@pytest.mark.parametrize("inner", [UDP() / LOAD, ICMP() / LOAD], ids=["udp", "ping"])
def test_ipv4_options(options: list[Packet], inner: Packet) -> None:
    sent = ETHER / IP(src="10.0.0.1", dst="10.0.0.2", flags="DF", options=options) / inner
    found = answer(sent)
    assert found is not None
    assert found[IP].ihl == 5
    assert bytes(found)[14 + 20 + 8 :] == bytes(sent[IP])[:548]


@pytest.mark.parametrize(
    "extension",
    [
        IPv6ExtHdrHopByHop(),
        IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt(),
        IPv6ExtHdrFragment(offset=0, m=1),
    ],
    ids=["hop by hop", "destination options", "first fragment"],
)
@pytest.mark.parametrize("inner", [UDP() / LOAD, ICMPv6EchoRequest() / LOAD], ids=["udp", "ping"])
def test_ipv6_extension_headers(extension: Packet, inner: Packet) -> None:
    found = answer(ETHER / V6 / extension / inner)
    assert found is not None
    assert found[ICMPv6PacketTooBig].mtu == 1500


@pytest.mark.parametrize(
    "packet",
    [
        ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / UDP() / LOAD,
        ETHER / IP(src="10.0.0.1", dst="10.0.0.2", flags="DF", frag=3) / LOAD,
        ETHER / V4 / ICMP(type=3, code=4) / LOAD,
        ETHER / V6 / ICMPv6PacketTooBig() / LOAD,
        ETHER / V4 / ICMP(type=11) / LOAD,
        ETHER / V6 / ICMPv6ND_Redirect() / LOAD,
        ETHER / V6 / IPv6ExtHdrDestOpt() / ICMPv6PacketTooBig() / LOAD,
        ETHER / V6 / IPv6ExtHdrFragment(offset=3) / LOAD,
        ETHER / IP(src="0.1.2.3", dst="10.0.0.2", flags="DF") / UDP() / LOAD,
        ETHER / IP(src="127.0.0.1", dst="10.0.0.2", flags="DF") / UDP() / LOAD,
        ETHER / IP(src="224.0.0.9", dst="10.0.0.2", flags="DF") / UDP() / LOAD,
        ETHER / IP(src="10.0.0.1", dst="224.0.0.9", flags="DF") / UDP() / LOAD,
        ETHER / IP(src="255.255.255.255", dst="10.0.0.2", flags="DF") / UDP() / LOAD,
        ETHER / IPv6(src="::", dst="fd00::2") / UDP() / LOAD,
        ETHER / IPv6(src="::1", dst="fd00::2") / UDP() / LOAD,
        ETHER / IPv6(src="ff02::1", dst="fd00::2") / UDP() / LOAD,
        ETHER / IPv6(src="fd00::1", dst="ff02::1") / UDP() / LOAD,
        Ether(dst="ff:ff:ff:ff:ff:ff") / V4 / UDP() / LOAD,
        Ether(src="03:00:00:00:00:0a", dst="02:00:00:00:00:0b") / V4 / UDP() / LOAD,
        Ether(type=0x88B5) / LOAD,
        ETHER / Dot1Q(type=0x88B5) / LOAD,
        ETHER / IP(bytes(V4 / UDP() / b"short")) / Padding(bytes(LOAD)),
        ETHER / IPv6(bytes(V6 / UDP() / b"short")) / Padding(bytes(LOAD)),
    ],
    ids=str,
)
def test_packets_that_are_not_answered(packet: Packet) -> None:
    assert answer(packet) is None


HOSTS = ("1.0.0.1", "126.9.9.9", "128.0.0.1", "223.255.255.254", "240.0.0.1", "255.255.255.254", "10.0.0.255")
OTHERS = ("0.0.0.1", "0.9.9.9", "127.9.9.9", "224.0.0.1", "225.0.0.1", "239.255.255.255", "255.255.255.255")
HOSTS6 = ("::2", "fd00::1:0:0:1", "1::1", "fe80::1", "feff::1", "2001:db8::")
OTHERS6 = ("::", "::1", "ff00::", "ff02::1")


@pytest.mark.parametrize(
    ("kind", "usual", "address", "answered"),
    [
        *((IP, "10.0.0.9", address, True) for address in HOSTS),
        *((IP, "10.0.0.9", address, False) for address in OTHERS),
        *((IPv6, "fd00::9", address, True) for address in HOSTS6),
        *((IPv6, "fd00::9", address, False) for address in OTHERS6),
    ],
)
def test_packets_from_one_host_to_another_are_answered(
    kind: type[Packet], usual: str, address: str, answered: bool
) -> None:
    for source, destination in ((address, usual), (usual, address)):
        headers = (V4 if kind is IP else V6).copy()
        headers.src, headers.dst = source, destination
        found = answer(ETHER / headers / UDP() / LOAD)
        assert (found is not None) == answered
        if found is not None:
            assert (found[kind].src, found[kind].dst) == (destination, source)


@pytest.mark.parametrize("kind", [*range(20), 126, 127, 128, 129, 135, 136, 137, 138, 255])
def test_errors_are_not_answered(kind: int) -> None:
    """ICMPv6 errors have types below 128; a redirect is treated as one."""
    message = Raw(bytes((kind, 0, 0, 0)) + bytes(LOAD))
    found = answer(ETHER / IPv6(src="fd00::1", dst="fd00::2", nh=58) / message)
    assert (found is None) == (kind < 128 or kind == 137)
    found = answer(ETHER / IP(src="10.0.0.1", dst="10.0.0.2", flags="DF", proto=1) / message)
    assert (found is None) == (kind in (3, 4, 5, 11, 12))


@pytest.mark.parametrize(("headers", "smallest"), [(V4, 68), (V6, 1280)], ids=["IPv4", "IPv6"])
def test_only_a_packet_above_the_mtu_is_answered(headers: Packet, smallest: int) -> None:
    head = len(headers / UDP())
    for mtu in (smallest, smallest + 1, 1500, 9000):
        sent = headers / UDP() / Raw(bytes(mtu - head))
        assert answer(ETHER / sent, mtu) is None
        assert answer(ETHER / sent / Padding(bytes(100)), mtu) is None
        found = answer(ETHER / sent / Raw(b"1"), mtu)
        assert found is not None
        reported = found[ICMP].nexthopmtu if ICMP in found else found[ICMPv6PacketTooBig].mtu
        assert reported == mtu


def test_the_label_of_a_flow_does_not_matter() -> None:
    assert answer(ETHER / IPv6(src="fd00::1", dst="fd00::2", tc=0xFF, fl=0xFFFFF) / UDP() / LOAD) is not None


@pytest.mark.parametrize(("more", "answered"), [(0, False), (1, True)])
def test_a_packet_of_extension_headers_alone_is_not_answered(more: int, answered: bool) -> None:
    extension = bytes((17, 255)) + bytes(256 * 8 - 2)
    sent = IPv6(src="fd00::1", dst="fd00::2", nh=60) / Raw(extension + bytes(more))
    assert (answer(ETHER / sent / Padding(bytes(100))) is not None) == answered


def test_a_short_packet_is_quoted_whole_and_without_padding() -> None:
    sent = V4 / UDP() / Raw(bytes(100))
    for padding in (b"", bytes(50)):
        found = answer(ETHER / IP(bytes(sent)) / Padding(padding), 68)
        assert found is not None
        assert bytes(found)[14 + 28 :] == bytes(sent)


def test_the_header_of_an_answer() -> None:
    """Internet control, as from a router, and whole."""
    found = answer(ETHER / V4 / UDP() / LOAD)
    assert found is not None
    ip = found[IP]
    assert (ip.version, ip.ihl, ip.tos, ip.ttl, ip.flags, ip.frag, ip.id) == (4, 5, 0xC0, 64, 0, 0, 0)
    assert ip.len == len(bytes(ip))
    assert bytes(ip[ICMP])[4:6] == bytes(2), "unused (RFC 1191)"
    found = answer(ETHER / V6 / UDP() / LOAD)
    assert found is not None
    ip = found[IPv6]
    assert (ip.version, ip.tc, ip.fl, ip.hlim, ip.nh) == (6, 0, 0, 64, 58)
    assert ip.plen == len(bytes(ip)) - 40
    assert found[ICMPv6PacketTooBig].code == 0


@pytest.mark.parametrize(
    ("packet", "at", "value"),
    [
        (V4 / UDP() / LOAD, 0, 0x55),
        (V4 / UDP() / LOAD, 0, 0x44),
        (V4 / UDP() / LOAD, 2, 0xFF),
        (V6 / UDP() / LOAD, 0, 0x50),
        (V6 / UDP() / LOAD, 4, 0xFF),
    ],
    ids=["another version", "too short a header", "cut", "IPv6: another version", "IPv6: cut"],
)
def test_a_broken_header_is_not_answered(packet: Packet, at: int, value: int) -> None:
    sent = bytearray(bytes(ETHER / packet))
    sent[14 + at] = value
    assert too_big(memoryview(bytes(HEADER) + bytes(sent)), 1500) is None


def test_the_smallest_mtus_are_reported() -> None:
    assert answer(ETHER / V6 / UDP() / LOAD, 1280) is not None
    assert answer(ETHER / V4 / UDP() / LOAD, 68) is not None
    for tags, mtu in ((2, 1280), (3, 1284), (4, 1288)):
        sent = ETHER
        for _ in range(tags):
            sent /= Dot1Q(vlan=7)
        assert answer(sent / V6 / UDP() / LOAD, mtu) is not None
        assert answer(sent / V6 / UDP() / LOAD, mtu - 1) is None


def test_an_mtu_below_the_minimum_is_not_reported() -> None:
    assert answer(ETHER / V6 / UDP() / LOAD, 1279) is None
    assert answer(ETHER / V4 / UDP() / LOAD, 67) is None


@pytest.mark.parametrize(
    "packet", [ETHER / V4 / ICMP() / LOAD, ETHER / Dot1Q() / V6 / IPv6ExtHdrDestOpt() / UDP() / LOAD], ids=str
)
def test_short_frames_are_no_problem(packet: Packet) -> None:
    whole = bytes(HEADER) + bytes(packet)
    for length in range(120):
        assert too_big(memoryview(whole[:length]), 68) is None


@given(
    st.binary(min_size=14, max_size=1600),
    st.sampled_from([b"\x08\0\x45", b"\x86\xdd\x60", b"\x81\0\0\1\x08\0\x4f"]),
)
def test_garbage_is_no_problem(rest: bytes, start: bytes) -> None:
    too_big(memoryview(bytes(HEADER) + bytes(12) + start + rest), 68)
