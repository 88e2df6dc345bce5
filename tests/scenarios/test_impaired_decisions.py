"""Decisions of a seed on real devices: the same segments, whatever frames and processes they come in."""

from __future__ import annotations

import itertools
import socket
import struct
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from epaird.bench.mmsg import enable_segmentation
from tests.dataplane.impair.loop import on_wire
from tests.dataplane.impair.pump import statistics
from tests.dataplane.superframes import TAGS, TCP, UDP, Offloaded
from tests.scenarios.ctl import epairctl
from tests.scenarios.lab import Daemon, Lab, pair
from tests.scenarios.test_impaired import kill_control_plane, kill_worker, upgrade
from tests.scenarios.transfers import Sink, add_neighbour, tagged_again
from tests.sockets import force_receive_buffer
from tests.waiting import until

pytestmark = pytest.mark.real

COUNT = 4000
SIZE = 1000
TOGETHER = 40
"""Datagrams of a super-frame."""
KEYS = ("delay", "20ms", "loss", "1%", "duplicate", "1%", "corrupt", "1%", "reorder", "1%", "seed", "7")
EXACT = [
    (35, "reorder"), (49, "loss"), (69, "reorder"), (91, "corrupt"), (98, "duplicate"), (102, "duplicate"),
    (150, "duplicate"), (181, "duplicate"), (221, "reorder"), (242, "duplicate"), (252, "corrupt"),
]  # fmt: skip
"""The first decisions of this seed about what half a transmits."""


def pairs(lab: Lab) -> Daemon:
    """Connect red and blue by two pairs that carry only what the test sends."""
    for name in ("red", "blue"):
        lab.namespace(name, ipv6=False)
    daemon = lab.daemon(pair(0, ipv6=False) + pair(1, ipv6=False), workers=1)
    for unit in (0, 1):
        add_neighbour(lab["red"], lab["blue"], f"10.0.{unit}.2", f"eth{unit}")
    return daemon


def decisions(lab: Lab, device: str) -> list[tuple[int, str]]:
    """Return the decisions that epairctl prints."""
    found = (each.split() for each in epairctl(lab, "impair", device, "log").splitlines())
    return [(int(number), fate) for number, fate in found]


def send(lab: Lab, daemon: Daemon, sink: Sink, unit: int, numbers: range, together: int) -> None:
    """Send numbered datagrams over a pair, so many in a frame, and wait until all have been read."""
    device = f"epair{unit}a"
    before = daemon.metrics().interface(device).opackets
    with lab["red"].socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((f"10.0.{unit}.2", sink.port))
        if together > 1:
            enable_segmentation(sender, SIZE)
        for first in numbers[::together]:
            parts = range(first, first + together)
            sender.send(b"".join(number.to_bytes(8) + bytes(SIZE - 8) for number in parts))
    frames = before + len(numbers) // together
    until(lambda: daemon.metrics().interface(device).opackets == frames, daemon.__repr__)


def carried(lab: Lab, daemon: Daemon, unit: int, together: int) -> list[int]:
    """Send COUNT numbered datagrams over a pair, so many in a frame; return the numbers that arrive."""
    with Sink(lab["blue"], f"10.0.{unit}.2") as sink:
        send(lab, daemon, sink, unit, range(COUNT), together)
        until(lambda: not daemon.metrics().held(f"epair{unit}a"), daemon.__repr__)
        daemon.at_rest()
        return sink.arrived()


def fated(decided: Sequence[tuple[int, str]], *fates: str) -> set[int]:
    return {segment for segment, fate in decided if fate in fates}


def assert_decided(arrived: Sequence[int], decided: Sequence[tuple[int, str]]) -> None:
    """Check that exactly these decisions were carried out.

    A duplicate is made before a bit is flipped, and follows the super-frame of its segment."""
    lost, corrupt, twice, overtook = (
        fated(decided, fate) for fate in ("loss", "corrupt", "duplicate", "reorder")
    )
    copies = Counter(range(COUNT)) + Counter(twice)
    copies.subtract(lost)
    copies.subtract(corrupt)
    assert Counter(arrived) == +copies
    in_order = [number for number in arrived if number not in overtook | twice]
    assert in_order == sorted(in_order)
    place = {number: at for at, number in reversed([*enumerate(arrived)])}
    for number in overtook - corrupt:
        before = max(set(in_order) & set(range(number)), default=number)
        assert place[number] <= place[before]


def test_the_same_segments_are_hit_as_super_frames_singly_and_by_replay(lab: Lab, tmp_path: Path) -> None:
    daemon = pairs(lab)
    for unit in (0, 1):
        epairctl(lab, "impair", f"epair{unit}a", *KEYS)
    arrived = carried(lab, daemon, 0, TOGETHER)
    decided = decisions(lab, "epair0a")
    assert decided[: len(EXACT)] == EXACT
    assert {fate for _, fate in decided} == {"loss", "duplicate", "corrupt", "reorder"}
    assert_decided(arrived, decided)
    assert statistics(lab["blue"])["UdpInCsumErrors"] == len(fated(decided, "corrupt"))

    assert_decided(carried(lab, daemon, 1, 1), decided)
    assert decisions(lab, "epair1a") == decided

    file = tmp_path / "decisions"
    file.write_text(epairctl(lab, "impair", "epair0a", "log"))
    for unit, together in ((0, 1), (1, TOGETHER)):
        epairctl(lab, "impair", f"epair{unit}a", "replay", str(file))
        assert_decided(carried(lab, daemon, unit, together), decided)


def test_decisions_go_on_and_nothing_that_is_held_is_lost_whatever_ends(lab: Lab) -> None:
    daemon = pairs(lab)
    for unit in (0, 1):
        epairctl(lab, "impair", f"epair{unit}a", "delay", "500ms", *KEYS[2:])
    faults = (kill_worker, kill_control_plane, upgrade, kill_worker)
    with Sink(lab["blue"], "10.0.0.2") as sink:
        for number, fault in enumerate(faults):
            step = COUNT // len(faults)
            send(lab, daemon, sink, 0, range(number * step, (number + 1) * step), TOGETHER)
            assert daemon.metrics().held("epair0a") > step // TOGETHER
            daemon = fault(lab, daemon)
        until(lambda: not daemon.metrics().held("epair0a"), daemon.__repr__)
        page = daemon.at_rest()
        arrived = sink.arrived()
    assert sum(page.interface("epair0b").ierrors.values()) == 0
    decided = decisions(lab, "epair0a")
    assert_decided(arrived, decided)
    assert_decided(carried(lab, daemon, 1, TOGETHER), decided)
    assert decisions(lab, "epair1a") == decided


SOL_PACKET, PACKET_VNET_HDR, PACKET_AUXDATA, ETH_P_ALL = 263, 15, 8, 3
VIRTIO = struct.Struct("<BBHHHH")
OUTER = 4
"""Bytes of the tag that the kernel removes."""


def packets(lab: Lab, name: str) -> socket.socket:
    """Open a packet socket whose frames have a virtio_net_hdr."""
    made = lab[name].socket(socket.AF_PACKET, socket.SOCK_RAW)
    force_receive_buffer(made, 1 << 26)
    made.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    made.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    made.bind(("eth0", ETH_P_ALL))
    return made


def received(receiver: socket.socket) -> bytes:
    """Return the next frame as it was delivered to the device."""
    data, ancillary, _, _ = receiver.recvmsg(1 << 17, 256)
    frame = tagged_again(data[VIRTIO.size :], ancillary)
    flags, kind, headers, size, start, offset = VIRTIO.unpack_from(data)
    more = OUTER if flags and len(frame) > len(data) - VIRTIO.size else 0
    return VIRTIO.pack(flags, kind, headers + more, size, start + more, offset) + frame


def test_exactly_the_decided_segments_are_cut_out_behind_tags_too(lab: Lab) -> None:
    daemon = pairs(lab)
    epairctl(lab, "impair", "epair0a", "delay", "1ms", "loss", "10%", "seed", "7")
    stacks = (b"", TAGS[0], TAGS[1] + TAGS[0])
    sent = [
        bytes(Offloaded(bytes([number]) * 20_000, version, protocol, 1000, tags, tcp_flags=0x99))
        for number, (version, protocol, tags) in enumerate(itertools.product((4, 6), (TCP, UDP), stacks))
    ]
    sender, receiver = packets(lab, "red"), packets(lab, "blue")
    for frame in sent:
        sender.send(frame)
    until(lambda: daemon.metrics().interface("epair0a").opackets == len(sent))
    page = daemon.at_rest()
    found = [received(receiver) for _ in range(page.interface("epair0b").ipackets)]
    lost = fated(decisions(lab, "epair0a"), "loss")
    whole = on_wire(sent)
    assert len(whole) == 20 * len(sent)
    assert 10 < len(lost) < 50
    assert any(len(frame) > 10_000 for frame in found)
    kept = [frame for number, frame in enumerate(whole) if number not in lost]
    assert [frame[VIRTIO.size :] for frame in on_wire(found)] == [frame[VIRTIO.size :] for frame in kept]
