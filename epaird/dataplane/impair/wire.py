"""The bytes of a frame on an Ethernet wire, which `rate`, `limit` and `ber` count.

:mod:`epaird.dataplane.impair.pieces` computes them for a segment."""

from __future__ import annotations

from typing import Final

from epaird.dataplane.frames import HEADER

PREAMBLE: Final = 8
"""Bytes before a frame, with the start frame delimiter."""
CHECK_SEQUENCE: Final = 4
"""Bytes of a frame check sequence."""
GAP: Final = 12
"""Bytes of the gap between two frames."""
OVERHEAD: Final = PREAMBLE + CHECK_SEQUENCE + GAP
"""Bytes beyond a frame's Ethernet header and payload."""
UNCHECKED: Final = PREAMBLE + GAP
"""Bytes that the frame check sequence does not protect."""
SHORTEST: Final = 60
"""Bytes of the shortest frame without its frame check sequence (ETH_ZLEN): shorter ones are padded."""
PADDED: Final = HEADER + SHORTEST
"""Bytes, virtio_net_hdr included, up to which a frame is padded."""
ON_WIRE: Final = OVERHEAD - HEADER
"""Bytes of a frame on a wire less those with its virtio_net_hdr."""
