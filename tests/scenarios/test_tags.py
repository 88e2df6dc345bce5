"""Frames behind VLAN tags: their lengths, compared with veth, and the path MTU."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.packet import Packet, Raw

from tests.dataplane.superframes import UDP as UDP_PROTOCOL
from tests.dataplane.superframes import Offloaded
from tests.scenarios.lab import NAMESPACES, Lab, pair
from tests.scenarios.namespaces import Namespace
from tests.scenarios.transfers import BROADCAST
from tests.waiting import until

pytestmark = pytest.mark.real

Q = 0x8100
AD = 0x88A8
OLD = 0x9100
"""A tag of before 802.1ad, which is none for the kernel."""
STACKS = [(), (Q,), (AD,), (Q, Q), (AD, Q), (AD, AD), (Q, AD), (Q, Q, Q), (AD, Q, Q), (OLD,), (OLD, Q)]
LENGTHS = range(1488, 1510)
"""Bytes behind the tags."""
FROM = b"\x02\x0f\x0f\0\0\1"
END = BROADCAST + FROM + b"\x88\xb6"

SOL_PACKET = 263
PACKET_AUXDATA = 8
PACKET_VNET_HDR = 15
AUXDATA = struct.Struct("=IIIHHHH")
"""struct tpacket_auxdata: the last two fields are the tag."""


def tags(stack: Sequence[int]) -> bytes:
    return b"".join(struct.pack("!HH", ethertype, number) for number, ethertype in enumerate(stack, 7))


class Ingress:
    """A port of a bridge, whose other port is a device: as on most switches, what comes in is untagged, and
    the device is given the outer tag apart from the frame."""

    def __init__(self, place: Namespace, device: str) -> None:
        end, port, bridge = f"{device}-in", f"{device}-port", f"{device}-br"
        place.ip(f"link add {end} mtu 9000 type veth peer name {port}")
        place.ip(f"link add {bridge} type bridge mcast_snooping 0")
        place.ip(f"link set {port} mtu 9000 master {bridge}")
        place.ip(f"link set {device} master {bridge}")
        for each in (end, port, bridge):
            place.ip(f"link set {each} up mtu 9000")
        self._plain, self._offloaded = (packets(place, end) for _ in range(2))
        self._offloaded.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)

    def send(self, frame: bytes) -> None:
        self._plain.send(frame)

    def send_offloaded(self, frame: bytes) -> None:
        """Send a frame that starts with a virtio_net_hdr."""
        self._offloaded.send(frame)


def packets(place: Namespace, device: str) -> socket.socket:
    made = place.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    made.bind((device, 3))
    return made


def arrivals(receiver: socket.socket) -> list[bytes]:
    """Return the frames of these tests up to the next end mark."""
    found = []
    while not (frame := receiver.recv(1 << 17)).startswith(END):
        if frame[6:12] == FROM:
            found.append(frame)
    return found


def cable(lab: Lab) -> tuple[Namespace, Namespace]:
    """Create red and blue with an epair eth0 and a veth eth7; red's halves have the larger MTU."""
    lab.daemon(NAMESPACES + pair(ipv6=False, a={"mtu": 2000, "addresses": None}, b={"addresses": None}))
    red, blue = lab["red"], lab["blue"]
    for place in (red, blue):
        for which in ("all", "default", "eth0"):
            place.write(f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6", "1")
    red.ip(f"link add eth7 mtu 2000 type veth peer name eth7 netns {blue.name}")
    for place in (red, blue):
        place.ip("link set eth7 up")
    until(lambda: "LOWER_UP" in red.ip("link show eth0") and "LOWER_UP" in red.ip("link show eth7"))
    return red, blue


def test_the_same_lengths_pass_as_by_veth(lab: Lab) -> None:
    red, blue = cable(lab)
    passed: dict[str, dict[tuple[int, ...], list[int]]] = {}
    for device in ("eth0", "eth7"):
        ingress, receiver = Ingress(red, device), packets(blue, device)
        until(lambda ingress=ingress, receiver=receiver: _forwards(ingress, receiver))  # type: ignore[misc]
        arrivals(receiver)
        passed[device] = {}
        for stack in STACKS:
            for length in LENGTHS:
                ingress.send(BROADCAST + FROM + tags(stack) + b"\x88\xb5" + length.to_bytes(length))
            ingress.send(END)
            passed[device][stack] = [int.from_bytes(frame[-2:]) for frame in arrivals(receiver)]
    assert passed["eth0"] == passed["eth7"]
    longest = {stack: lengths[-1] for stack, lengths in passed["eth0"].items()}
    assert [longest[stack] for stack in ((), (Q,), (AD,), (AD, Q), (AD, Q, Q), (OLD,))] == [
        1504, 1504, 1504, 1500, 1496, 1500,
    ]  # fmt: skip


def _forwards(ingress: Ingress, receiver: socket.socket) -> bool:
    """Return whether the bridge forwards already; everything up to a last end mark may follow."""
    ingress.send(END)
    receiver.settimeout(0.1)
    try:
        receiver.recv(1 << 17)
    except TimeoutError:
        return False
    finally:
        receiver.settimeout(30)
    ingress.send(END)
    return True


def test_the_segments_of_super_frames_may_be_as_long_as_frames(lab: Lab) -> None:
    red, blue = cable(lab)
    ingress, receiver = Ingress(red, "eth0"), packets(blue, "eth0")
    until(lambda: _forwards(ingress, receiver))
    arrivals(receiver)
    longest = {}
    for stack in STACKS[:9]:
        for length in LENGTHS:
            size = length - 28
            sent = bytes(Offloaded(bytes(3 * size), 4, UDP_PROTOCOL, size, tags(stack)))
            ingress.send_offloaded(sent[:10] + BROADCAST + FROM + sent[22:])
        ingress.send(END)
        outer = 4 if stack else 0  # the kernel takes it out
        heads = 14 + 28 + 4 * len(stack) - outer
        found = [len(frame) - heads for frame in arrivals(receiver)]
        longest[stack] = max(size // 3 + 28 for size in found)
        assert all(size % 3 == 0 for size in found), "no super-frame was segmented"
    assert list(longest.values()) == [1504, 1504, 1504, 1500, 1500, 1500, 1500, 1496, 1496]


@pytest.mark.parametrize(
    ("stack", "mtu"), [((), 1500), ((Q,), 1500), ((AD,), 1500), ((AD, Q), 1500), ((AD, Q, Q), 1496)]
)
def test_a_packet_that_is_too_long_is_answered_behind_its_tags(
    lab: Lab, stack: tuple[int, ...], mtu: int
) -> None:
    red, blue = cable(lab)
    ingress, answers = Ingress(red, "eth0"), packets(red, "eth0-in")
    answers.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    receiver = packets(blue, "eth0")
    until(lambda: _forwards(ingress, receiver))
    to = bytes.fromhex(red.links()["eth0"].mac.replace(":", ""))[:5] + b"\x77"
    for ethertype, packet in (
        (b"\x08\0", IP(src="10.1.0.1", dst="10.1.0.2", flags="DF") / UDP()),
        (b"\x86\xdd", IPv6(src="fd01::1", dst="fd01::2") / UDP()),
    ):
        sent = bytes(packet / Raw(bytes(1600)))
        ingress.send(to + FROM + tags(stack) + ethertype + sent)
        frame, tag = _answer(answers, to)
        assert tag == struct.unpack("!HH", tags(stack)[:4]) if stack else tag is None
        behind = 12 + len(tags(stack)[4:])
        assert frame[:behind] == FROM + to + tags(stack)[4:]
        assert frame[behind : behind + 2] == ethertype
        answer: Packet = type(packet)(frame[behind + 2 :])
        reported = answer[ICMP].nexthopmtu if ICMP in answer else answer[ICMPv6PacketTooBig].mtu
        assert reported == mtu


def _answer(answers: socket.socket, sender: bytes) -> tuple[bytes, tuple[int, int] | None]:
    """Return the next frame from a sender, without its outer tag, and that tag."""
    while True:
        frame, ancillary, _, _ = answers.recvmsg(1 << 17, 256)
        if frame[6:12] == sender:
            break
    (data,) = (data for level, kind, data in ancillary if (level, kind) == (SOL_PACKET, PACKET_AUXDATA))
    status, _, _, _, _, tci, ethertype = AUXDATA.unpack(data)
    return frame, (ethertype, tci) if status & 0x10 else None
