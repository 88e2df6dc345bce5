"""The virtio_net_hdr of a frame, and the size of its segments.

A frame as read from a device is a virtio_net_hdr and an Ethernet frame. A super-frame is up to 64 KB, and its
virtio_net_hdr describes how it would be segmented; its size on a medium is that of one segment.
"""

from __future__ import annotations

import struct
from typing import Final

from epaird.ipc.counters import OVERSIZE, RUNT
from epaird.kernel.abi import (
    VIRTIO_NET_HDR_GSO_ECN,
    VIRTIO_NET_HDR_GSO_NONE,
    VIRTIO_NET_HDR_GSO_TCPV4,
    VIRTIO_NET_HDR_GSO_TCPV6,
    VIRTIO_NET_HDR_GSO_UDP_L4,
)

HEADER: Final = 10
"""Bytes of a virtio_net_hdr."""
ETHERNET: Final = 14
"""Bytes of an Ethernet header."""
VLAN_TAG: Final = 4
"""Bytes of a VLAN tag."""
FRAME_MAX: Final = HEADER + 65535 + ETHERNET + 3 * VLAN_TAG
"""Bytes of the largest frame that a kernel sends: a 64 KB packet with its Ethernet header and three tags."""
SHORTEST: Final = HEADER + ETHERNET
"""Bytes of the shortest frame."""

_GSO = struct.Struct("<BBHHH")  # flags, gso_type, hdr_len, gso_size, csum_start
_TCP_DATA_OFFSET: Final = 12
_UDP_HEADER: Final = 8


def objection(frame: memoryview, length: int, limit: int) -> int | None:
    """Return why a frame of ``length`` bytes at the start of ``frame`` is refused: RUNT, OVERSIZE, or None.

    To be called when ``length`` is not between SHORTEST and ``limit``. A super-frame passes when each of its
    segments does. A frame that fills the whole buffer was truncated by the kernel."""
    if length < SHORTEST:
        return RUNT
    if length <= limit or (length < len(frame) and _segment(frame) <= limit):
        return None
    return OVERSIZE


def _segment(frame: memoryview) -> int:
    """Return the bytes, virtio_net_hdr included, of a super-frame's largest segment; FRAME_MAX for others.

    hdr_len is of no use: the kernel sets it to the linear part of its buffer (virtio_net_hdr_from_skb)."""
    gso_type: int
    gso_size: int
    transport: int
    _flags, gso_type, _hdr_len, gso_size, transport = _GSO.unpack_from(frame)
    kind = gso_type & ~VIRTIO_NET_HDR_GSO_ECN
    if kind == VIRTIO_NET_HDR_GSO_NONE:
        return FRAME_MAX
    if kind in (VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6):
        transport += (frame[HEADER + transport + _TCP_DATA_OFFSET] >> 4) * 4
    elif kind == VIRTIO_NET_HDR_GSO_UDP_L4:
        transport += _UDP_HEADER
    return HEADER + transport + gso_size
