"""Every kind of frame crosses unchanged; only its size decides."""

from __future__ import annotations

import socket
import struct

import pytest

from tests.scenarios.lab import CABLE, NAMESPACES, Lab, pair
from tests.scenarios.transfers import BLUE, BROADCAST, RawSocket, Sink, frame, ping
from tests.waiting import until

pytestmark = pytest.mark.real

ETHERNET = 14
TAG = 4

SPANNING_TREE = bytes.fromhex("0180c2000000")
IPV4_MULTICAST = bytes.fromhex("01005e000001")
IPV6_MULTICAST = bytes.fromhex("333300000001")
UNICAST = bytes.fromhex("02f00d000001")

UDP_SEGMENT = 103
"""linux/udp.h: the kernel splits what is sent into datagrams of this size."""


def tagged(kind: int, tag: int, length: int) -> bytes:
    """Return a frame of ``length`` bytes with a VLAN tag, from the tag's EtherType and its number."""
    plain = frame(0x0800, length - TAG)
    return plain[:12] + struct.pack("!HH", kind, tag) + plain[12:]


KINDS = {
    "a VLAN tag": tagged(0x8100, 0xE007, 1000),
    "a VLAN tag, the longest": tagged(0x8100, 42, 1500 + ETHERNET + TAG),
    "a provider's tag": tagged(0x88A8, 42, 1000),
    "ARP": frame(0x0806, 60),
    "IPv6": frame(0x86DD, 1000, to=UNICAST),
    "IPv4 multicast": frame(0x0800, 1000, to=IPV4_MULTICAST),
    "IPv6 multicast": frame(0x86DD, 1000, to=IPV6_MULTICAST),
    "spanning tree, by length": frame(0x0026, 60, to=SPANNING_TREE),
    "pause": frame(0x8808, 60, to=SPANNING_TREE),
    "an EtherType for experiments": frame(0x88B5, 1514, to=UNICAST),
    "an unassigned EtherType": frame(0xFFFF, 1514),
    "a header alone": frame(0x88B5, 18)[:ETHERNET],
}


def test_every_kind_of_frame_crosses_unchanged_both_ways(lab: Lab) -> None:
    daemon = lab.daemon(CABLE)
    with RawSocket(lab["red"], "eth0") as red, RawSocket(lab["blue"], "eth0") as blue:
        for sender, receiver in ((red, blue), (blue, red)):
            for kind, sent in KINDS.items():
                sender.send(sent)
                assert receiver.receive() == sent, kind
    daemon.at_rest()


def test_multicast_is_counted(lab: Lab) -> None:
    lab.namespace("red", ipv6=False)
    lab.namespace("blue", ipv6=False)
    daemon = lab.daemon(pair(ipv6=False))
    with RawSocket(lab["red"], "eth0") as red, RawSocket(lab["blue"], "eth0") as blue:
        for to in (BROADCAST, IPV4_MULTICAST, SPANNING_TREE, UNICAST, UNICAST):
            red.send(frame(0x88B5, 100, to=to))
            blue.receive()
    page = daemon.at_rest()
    a, b = page.interface("epair0a"), page.interface("epair0b")
    assert (a.opackets, a.obytes, a.omcasts) == (5, 500, 3)
    assert (b.ipackets, b.ibytes, b.imcasts) == (5, 500, 3)
    assert (b.opackets, b.obytes, b.omcasts) == (a.ipackets, a.ibytes, a.imcasts) == (0, 0, 0)


def test_mtu_and_18_passes_and_one_more_is_oversize(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + pair(a={"mtu": 2000}, b={"mtu": 1500}))
    longest = 1500 + ETHERNET + TAG
    behind_tag = longest + TAG  # an outer tag does not count
    with RawSocket(lab["red"], "eth0") as red, RawSocket(lab["blue"], "eth0") as blue:
        for sent in (frame(0x88B5, longest), tagged(0x8100, 7, behind_tag)):
            red.send(sent)
            assert blue.receive() == sent
        too_long_tagged = tagged(0x8100, 7, behind_tag + 1)
        for too_long in (frame(0x88B5, longest + 1), too_long_tagged, frame(0x88B5, 2014)):
            red.send(too_long)
        red.send(sent)
        assert blue.receive() == sent
    assert daemon.at_rest().interface("epair0a").oerrors["oversize"] == 3


def test_a_new_mtu_is_the_new_limit(lab: Lab) -> None:
    daemon = lab.daemon(CABLE)
    with RawSocket(lab["red"], "eth0") as red, RawSocket(lab["blue"], "eth0") as blue:
        for mtu in (1300, 4000):
            lab["red"].ip("link set eth0 mtu 5000")
            lab["blue"].ip(f"link set eth0 mtu {mtu}")
            daemon.wait_for_log(f"epair0b: mtu is {mtu} now")
            before = daemon.metrics().interface("epair0a").oerrors["oversize"]
            too_long = frame(0x88B5, mtu + ETHERNET + TAG + 1)

            def refused(too_long: bytes = too_long, before: int = before) -> bool:
                red.send(too_long)
                return daemon.metrics().interface("epair0a").oerrors["oversize"] > before

            until(refused)
            sent = frame(0x88B5, mtu + ETHERNET + TAG)
            red.send(sent)
            while (received := blue.receive()) == too_long:
                pass
            assert received == sent
    daemon.at_rest()


def test_a_super_frame_is_as_large_as_its_segments(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + pair(a={"mtu": 9000}, b={"mtu": 1500}))
    red, blue = lab["red"], lab["blue"]
    ping(red, BLUE)
    with Sink(blue, BLUE) as sink, red.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((BLUE, sink.port))
        before = daemon.at_rest().interface("epair0a")
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
        sender.send(bytes(60 * 1000))
        sink.await_arrivals(60)
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 4000)
        sender.send(bytes(10 * 4000))
        after = daemon.at_rest().interface("epair0a")
        assert len(sink.arrived()) == 60
    assert after.oerrors["oversize"] - before.oerrors["oversize"] == 1
    assert after.opackets - before.opackets < 10
