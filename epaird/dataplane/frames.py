"""What a frame says of itself: its virtio_net_hdr, and how large its segments will be on the wire.

A frame as read from a device is a virtio_net_hdr and an Ethernet frame.  A super-frame is up to 64 KB
and says in its header how it would be segmented; its size on the wire is that of one segment.
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
VLAN_TAG: Final = 4
FRAME_MAX: Final = HEADER + 65535 + ETHERNET + 2 * VLAN_TAG
"""The largest a kernel sends: a 64 KB packet with its Ethernet header and two tags."""
SHORTEST: Final = HEADER + ETHERNET

_GSO = struct.Struct("<BBHHH")  # flags, gso_type, hdr_len, gso_size, csum_start
_TCP_DATA_OFFSET: Final = 12
_UDP_HEADER: Final = 8


def read_limit(mtu_a: int, mtu_b: int) -> int:
    """Bytes, header included, up to which a frame fits both MTUs without a closer look.

    The rule is the kernel's own for veth (is_skb_forwardable): MTU, Ethernet header, one VLAN tag."""
    return HEADER + min(mtu_a, mtu_b) + ETHERNET + VLAN_TAG


def objection(frame: memoryview, length: int, limit: int) -> int | None:
    """Why a frame of ``length`` bytes at the start of ``frame`` may not pass: RUNT, OVERSIZE or None.

    To be asked when ``length`` is not between SHORTEST and ``limit``; a super-frame passes when each of
    its segments does.  A frame that fills the whole buffer was cut short by the kernel."""
    if length < SHORTEST:
        return RUNT
    if length <= limit or (length < len(frame) and _segment(frame) <= limit):
        return None
    return OVERSIZE


def _segment(frame: memoryview) -> int:
    """Bytes, virtio_net_hdr included, of a super-frame's largest segment; of any other frame, no bound.

    hdr_len will not do: the kernel gives what happens to be linear (virtio_net_hdr_from_skb)."""
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
