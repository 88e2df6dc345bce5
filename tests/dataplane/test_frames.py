from __future__ import annotations

import struct

import pytest
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether

from epaird.dataplane.frames import ETHERNET, FRAME_MAX, HEADER, VLAN_TAG, objection
from epaird.ipc.counters import OVERSIZE, RUNT
from epaird.kernel import abi

MTU = 1500
LIMIT = HEADER + MTU + ETHERNET + VLAN_TAG


def buffer(gso_type: int = 0, gso_size: int = 0, start: int = 0, data_offset: int = 5) -> memoryview:
    frame = bytearray(FRAME_MAX + 1)
    struct.pack_into("<BBHHHH", frame, 0, 1, gso_type, 9999, gso_size, start, 16)
    frame[HEADER + start + 12] = data_offset << 4
    return memoryview(frame)


def test_the_sizes_are_those_of_the_headers() -> None:
    assert len(Ether()) == ETHERNET
    assert len(Ether() / Dot1Q()) == ETHERNET + VLAN_TAG
    assert struct.calcsize("=BBHHHH") == HEADER
    assert HEADER + len(Ether() / Dot1AD() / Dot1Q() / Dot1Q()) + 65535 == FRAME_MAX


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (0, RUNT),
        (HEADER + ETHERNET - 1, RUNT),
        (HEADER + ETHERNET, None),
        (HEADER + MTU + 18, None),
        (HEADER + MTU + 19, OVERSIZE),
        (FRAME_MAX, OVERSIZE),
    ],
)
def test_a_plain_frame_is_judged_by_its_length(length: int, expected: int | None) -> None:
    assert objection(buffer(), length, LIMIT) == expected


TCP4 = abi.VIRTIO_NET_HDR_GSO_TCPV4
TCP6 = abi.VIRTIO_NET_HDR_GSO_TCPV6
UDP = abi.VIRTIO_NET_HDR_GSO_UDP_L4
ECN = abi.VIRTIO_NET_HDR_GSO_ECN


@pytest.mark.parametrize(
    ("gso_type", "start", "data_offset", "largest_fitting"),
    [
        (TCP4, 34, 5, MTU + 18 - 34 - 20),
        (TCP4 | ECN, 34, 8, MTU + 18 - 34 - 32),
        (TCP6, 54, 15, MTU + 18 - 54 - 60),
        (UDP, 34, 0, MTU + 18 - 34 - 8),
        (UDP, 58, 0, MTU + 18 - 58 - 8),
    ],
)
def test_a_super_frame_is_judged_by_its_segments(
    gso_type: int, start: int, data_offset: int, largest_fitting: int
) -> None:
    assert objection(buffer(gso_type, largest_fitting, start, data_offset), 65000, LIMIT) is None
    assert objection(buffer(gso_type, largest_fitting + 1, start, data_offset), 65000, LIMIT) == OVERSIZE


def test_a_frame_that_fills_the_buffer_was_truncated() -> None:
    frame = buffer(TCP4, 1448, 34)
    assert objection(frame, len(frame) - 1, LIMIT) is None
    assert objection(frame, len(frame), LIMIT) == OVERSIZE
