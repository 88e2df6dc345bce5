from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from epaird.dataplane.frames import ETHERNET, HEADER, VLAN_TAG
from epaird.dataplane.links import ETHERNET_LINK, FAMILIES, IP_LINK
from epaird.ipc.counters import OVERSIZE, RUNT
from tests.dataplane.conftest import frame


def test_the_limit_is_the_smaller_mtu_with_ethernet_header_and_vlan_tag() -> None:
    read_limit = ETHERNET_LINK.read_limit
    assert read_limit((8000, 1500)) == HEADER + 1500 + ETHERNET + VLAN_TAG == read_limit((1500, 8000))
    assert read_limit((1500,)) == read_limit((1500, 1500))


@pytest.mark.parametrize("outer", ["8100", "88a8"])
def test_the_outer_tag_does_not_count(outer: str) -> None:
    """As in veth, which the kernel gives the outer tag apart from the frame."""
    limit = ETHERNET_LINK.read_limit((1500,))
    for kind, more in ((outer, VLAN_TAG), ("9100", 0), ("0800", 0), ("0000" + outer, 0)):
        sent = memoryview((bytes(HEADER) + bytes(12) + bytes.fromhex(kind)).ljust(3000, b"\0"))
        assert ETHERNET_LINK.objection(sent, limit + more, limit) is None
        assert ETHERNET_LINK.objection(sent, limit + more + 1, limit) == OVERSIZE
        assert ETHERNET_LINK.objection(sent, HEADER + ETHERNET - 1, limit) == RUNT


def test_an_address_is_no_tag() -> None:
    packet = memoryview((bytes(HEADER) + bytes(IP(src="129.0.0.1"))).ljust(3000, b"\0"))
    assert IP_LINK.objection(packet, HEADER + 1500, HEADER + 1500) is None
    assert IP_LINK.objection(packet, HEADER + 1501, HEADER + 1500) == OVERSIZE


def test_the_limit_of_a_packet_is_the_mtu() -> None:
    assert IP_LINK.read_limit((1500,)) == HEADER + 1500
    assert IP_LINK.read_limit((1500, 9000)) == HEADER + 1500


def test_a_packet_of_no_version_of_ip_has_no_group() -> None:
    packets = [bytes(HEADER) + bytes((version << 4,)) + b"\xff" * 60 for version in range(16)]
    assert IP_LINK.multicasts([each for each in packets if each[HEADER] >> 4 not in (4, 6)]) == 0


def test_ethernet_multicasts_have_the_group_bit() -> None:
    frames = [frame(), frame(to=b"\xff" * 6), frame(to=b"\x33\x33\0\0\0\x01"), frame(to=b"\x02" * 6)]
    assert ETHERNET_LINK.multicasts(frames) == 2
    assert ETHERNET_LINK.multicasts([memoryview(each) for each in frames]) == 2


@pytest.mark.parametrize(
    ("packet", "multicasts"),
    [
        (IP(dst="10.0.0.1"), 0),
        (IP(dst="223.255.255.255"), 0),
        (IP(dst="224.0.0.1"), 1),
        (IP(dst="239.1.2.3"), 1),
        (IP(dst="255.255.255.255"), 0),
        (IPv6(dst="fd88::1"), 0),
        (IPv6(dst="fe80::1"), 0),
        (IPv6(dst="ff02::1"), 1),
    ],
)
def test_ip_multicasts_have_a_group_as_destination(packet: Packet, multicasts: int) -> None:
    whole = bytes(HEADER) + bytes(packet)
    assert IP_LINK.multicasts([whole]) == multicasts
    assert IP_LINK.multicasts([whole[:-1]]) == 0, "its destination is not whole"
    assert IP_LINK.multicasts([bytes(HEADER) + b"\x75" + whole[HEADER + 1 :]]) == 0, "no family"


@pytest.mark.parametrize("packet", [IP(src="10.1.2.3", dst="10.4.5.6"), IPv6(src="fd88::3", dst="fd88::4")])
def test_addresses_are_where_scapy_writes_them(packet: Packet) -> None:
    whole = bytes(HEADER) + bytes(packet)
    family = FAMILIES[whole[HEADER] >> 4]
    assert family is not None
    assert len(whole) == family.shortest
    kind = type(packet)
    swapped = bytearray(whole)
    swapped[family.source], swapped[family.destination] = whole[family.destination], whole[family.source]
    again = kind(bytes(swapped[HEADER:]))
    assert (again.src, again.dst) == (packet.dst, packet.src)


def test_only_the_sender_of_an_ethernet_frame_gets_the_mtu() -> None:
    packet = IP(src="10.0.0.1", dst="10.0.0.2", flags="DF") / UDP() / Raw(bytes(2000))
    sent = bytes(HEADER) + bytes(Ether(src="02:00:00:00:00:0a", dst="02:00:00:00:00:0b") / packet)
    message = ETHERNET_LINK.too_big(memoryview(sent), ETHERNET_LINK.read_limit((1400, 1500)))
    assert message is not None
    assert Ether(message[HEADER:])[ICMP].nexthopmtu == 1400
    assert IP_LINK.too_big(memoryview(bytes(HEADER) + bytes(packet)), 1500) is None
