"""Halves without offloads: they receive frames as on a wire, whatever they are plugged into."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from epaird.control.interfaces.frontend import FrontEnd
from epaird.control.readings import InterfaceReading
from epaird.dataplane.segmenting import segment
from tests.dataplane.datagrams import folded
from tests.dataplane.superframes import Offloaded
from tests.scenarios.control_plane import (
    ControlPlane,
    control_plane,
    in_thread,
    on_loop_in_lab,
    pair_settings,
)
from tests.scenarios.lab import Lab
from tests.scenarios.namespaces import Namespace
from tests.scenarios.transfers import BLUE, BLUE6, RED, RED6, add_neighbour, ping, tcp
from tests.sockets import force_receive_buffer
from tests.waiting import eventually

pytestmark = pytest.mark.real

UDP_SEGMENT = 103
"""linux/udp.h: the kernel splits what is sent into datagrams of this size."""
SOL_PACKET = 263
PACKET_VNET_HDR = 15
ON_WIRE = 1514


class Capture:
    """Everything that a device delivers to its owner."""

    def __init__(self, place: Namespace, device: str = "eth0") -> None:
        self._socket = place.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        force_receive_buffer(self._socket, 1 << 27)
        self._socket.bind((device, 3))

    def frames(self) -> Iterator[bytes]:
        """Yield the frames that were captured since the last call."""
        self._socket.setblocking(False)
        while True:
            try:
                frame, where = self._socket.recvfrom(1 << 17)
            except BlockingIOError:
                return
            if where[2] != socket.PACKET_OUTGOING:
                yield frame

    def count_as_on_a_wire(self) -> int:
        """Return how many frames arrived since the last call.

        Checks that none is longer than the MTU allows, and that TCP and UDP checksums are whole."""
        frames = list(self.frames())
        assert max(map(len, frames), default=0) <= ON_WIRE
        assert all(map(_is_complete, frames))
        return len(frames)


def _is_complete(frame: bytes) -> bool:
    ethertype, packet = frame[12:14], frame[14:]
    if ethertype == b"\x08\0":
        total = struct.unpack("!H", packet[2:4])[0]
        protocol, addresses, upper = packet[9], packet[12:20], packet[(packet[0] & 15) * 4 : total]
    elif ethertype == b"\x86\xdd":
        protocol, addresses = packet[6], packet[8:40]
        upper = packet[40 : 40 + struct.unpack("!H", packet[4:6])[0]]
    else:
        return True
    if protocol not in (6, 17):
        return True
    pseudo = addresses + struct.pack("!HH", protocol, len(upper))
    return folded(pseudo + upper + b"\0" * (len(upper) % 2)) == 0xFFFF


async def plain_and_offloading(control: ControlPlane, queues: int) -> FrontEnd:
    """Create epair5, whose b is blue's eth0 and takes no offloads, and epair6, whose a is red's eth0."""
    settings, spare = pair_settings(control.lab), {"netns": control.lab["spare"].name}
    await control.interfaces.create(
        "epair5", {"offload": False, "queues": queues, "a": spare, "b": settings["b"]}
    )
    await control.interfaces.create("epair6", {"queues": queues, "a": settings["a"], "b": spare})
    return control.interfaces


def balanced(sender: InterfaceReading, receiver: InterfaceReading, before: int = 0) -> bool:
    sent = sender.stats.opackets + receiver.stats.added_segments
    return sent - receiver.stats.ipackets - sum(receiver.stats.ierrors.values()) == before


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process, and kill it at the end."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("queues", [1, 2])
def test_patched_to_an_offloading_half(lab: Lab, queues: int) -> None:
    _patched(lab, queues)


@on_loop_in_lab
async def _patched(lab: Lab, queues: int) -> None:
    red, blue = lab.namespace("red"), lab.namespace("blue")
    lab.namespace("spare", ipv6=False)
    async with control_plane(lab, workers=queues) as control:
        interfaces = await plain_and_offloading(control, queues)
        await interfaces.patch("epair6a", "epair5b", force=True)
        await eventually(lambda: control.reading("epair5b").carrier)
        for place in (red, blue):
            await in_thread(place.wait_for_dad, "eth0")
        capture, back = Capture(blue), Capture(red)
        for address, other in ((BLUE, RED), (BLUE6, RED6)):
            await in_thread(tcp, red, blue, address, 3_000_000)
            await in_thread(tcp, blue, red, other, 3_000_000)
            await in_thread(_send_segments, red, address)
            assert capture.count_as_on_a_wire() >= 3_000_000 // 1500 + 50
            assert back.count_as_on_a_wire() >= 3_000_000 // 1500
        b = control.reading("epair5b")
        assert b.stats.coalesced_superframes == b.stats.added_segments == 0, "the sender's kernel segments"
        await control.at_rest("epair5b", "epair6a")
        # Its offloads are back with its own peer.
        await interfaces.patch("epair6a", "epair6b", force=True)
        before = control.reading("epair6a").stats.opackets
        spare = lab["spare"]
        spare.ip("addr add 10.0.0.3/24 dev epair6b")
        await eventually(lambda: control.reading("epair6a").carrier)
        await in_thread(tcp, red, spare, "10.0.0.3", 5_000_000)
        assert control.reading("epair6a").stats.opackets - before < 5_000_000 / 1500


def _send_segments(place: Namespace, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with place.socket(family, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 1000)
        sender.sendto(bytes(50 * 1000), (address, 7777))


@on_loop_in_lab
async def test_frames_that_wait_when_offload_is_switched_off_are_segmented(lab: Lab) -> None:
    red, blue = lab.namespace("red", ipv6=False), lab.namespace("blue", ipv6=False)
    async with control_plane(lab) as control:
        await control.interfaces.create("epair0", pair_settings(lab, ipv6=False))
        await in_thread(ping, red, BLUE)
        add_neighbour(red, blue, BLUE)
        await control.at_rest("epair0a", "epair0b")
        capture = Capture(blue)
        sink = blue.socket(socket.AF_INET, socket.SOCK_DGRAM)
        force_receive_buffer(sink, 1 << 24)
        sink.bind((BLUE, 0))
        sender = red.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.connect(sink.getsockname())
        sender.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 1000)
        expected = [struct.pack("!HH", number, place) * 250 for number in range(10) for place in range(40)]
        whole = [b"".join(expected[number : number + 40]) for number in range(0, 400, 40)]
        await _switch_off(control, *(partial(sender.send, each) for each in whole))
        assert [await in_thread(sink.recv, 2000) for _ in expected] == expected
        assert capture.count_as_on_a_wire() >= 400
        await control.at_rest("epair0a", "epair0b")
        a, b = control.reading("epair0a"), control.reading("epair0b")
        assert b.stats.added_segments == 10 * 39
        assert balanced(a, b)
        assert b.stats.ipackets == blue.links()["eth0"].rx_packets


@on_loop_in_lab
async def test_offload_changes_under_traffic(lab: Lab) -> None:
    red, blue = lab.namespace("red", ipv6=False), lab.namespace("blue", ipv6=False)
    async with control_plane(lab) as control:
        await control.interfaces.create("epair0", pair_settings(lab, ipv6=False))
        await in_thread(ping, red, BLUE)
        capture = Capture(blue)
        stream = asyncio.create_task(in_thread(tcp, red, blue, BLUE, 150_000_000))
        changes = 0
        while not stream.done():
            await control.interfaces.change("epair0", {"offload": False})
            list(capture.frames())  # those from before
            seen = 0

            def enough() -> bool:
                nonlocal seen
                seen += capture.count_as_on_a_wire()
                return stream.done() or seen > 50

            await eventually(enough)
            await control.interfaces.change("epair0", {"offload": True})
            changes += 1
        await stream
        assert changes > 1
        await control.at_rest("epair0a", "epair0b")
        a, b = control.reading("epair0a"), control.reading("epair0b")
        assert balanced(a, b)
        assert balanced(b, a)
        assert not sum(b.stats.ierrors.values())
        assert b.stats.ipackets - b.stats.coalesced_datagrams + b.stats.coalesced_superframes == (
            blue.links()["eth0"].rx_packets - b.stats.too_big
        )


@on_loop_in_lab
async def test_segments_wait_for_a_receiver_that_is_full(lab: Lab) -> None:
    """Everything arrives, once and in order, although most of a super-frame finds no room at first."""
    red, blue, green = (lab.namespace(name, ipv6=False) for name in ("red", "blue", "green"))
    blue.ip("link add bridge type bridge mcast_snooping 0")
    blue.ip(f"link add slow type veth peer name fast netns {green}")
    green.ip("link set fast up")
    async with control_plane(lab) as control:
        settings = pair_settings(lab, ipv6=False)
        settings["b"] |= {"sndbuf": 4096, "addresses": []}
        await control.interfaces.create("epair0", settings)
        for port in ("eth0", "slow"):
            blue.ip(f"link set {port} master bridge up")
        blue.ip("link set bridge up")
        blue.tc("qdisc add dev slow root tbf rate 20mbit burst 2000 limit 1mb")
        sender = red.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sender.bind(("eth0", 3))
        sender.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        receiver = green.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        force_receive_buffer(receiver, 1 << 24)
        receiver.bind(("fast", 3))
        sent = [bytes(Offloaded(bytes([number]) * 40_000, protocol=17)) for number in range(10)]
        await _switch_off(control, *(partial(sender.send, each) for each in sent))
        expected = [each[10:] for whole in sent for each in segment(whole)]
        found: list[bytes] = []
        while len(found) < len(expected):
            frame = await in_thread(receiver.recv, 1 << 17)
            if frame[:12] == expected[0][:12]:
                found.append(frame)
        assert found == expected
        await control.at_rest("epair0a", "epair0b")
        assert control.reading("epair0b").stats.added_segments == 10 * 39
        assert balanced(control.reading("epair0a"), control.reading("epair0b"))


async def _switch_off(control: ControlPlane, *sends: Callable[[], object]) -> None:
    """Switch the offloads of epair0 off while these frames wait in a ring.

    The worker that would have delivered them is stopped, and then replaced."""
    with stopped(control.worker_pid()):
        for each in sends:
            each()
        switching = asyncio.create_task(control.interfaces.change("epair0", {"offload": False}))
        await eventually(lambda: "epair0" not in control.workers[0].attachments)
    await switching
