"""The slot of a line in the ledger: copies of the counters that its ring has (:mod:`epaird.ipc.ring`).

This module is imported by worker processes: it uses the standard library only.
"""

from __future__ import annotations

import struct
from array import array
from typing import Final

from epaird.ipc.counters import (
    ESEGMENTS,
    HELD_FRAMES,
    IMPAIRED,
    LATE_BUCKETS,
    LATE_BUCKETS_MAX,
    OSEGMENTS,
    REASONS_MAX,
    REORDERED,
)
from epaird.ipc.ledger import Words
from epaird.ipc.ringfile import COUNTERS, FRAMES, LATE, REFUSED

_ever_held: Final = struct.Struct("=3Q").unpack_from
_EVER_HELD: Final = FRAMES * 8
_gone: Final = struct.Struct("=8x5Q").unpack_from
"""Returns frames, segments and bytes that are gone; segments that were delivered; the histogram's sum."""
_store: Final = struct.Struct("=6Q").pack_into
"""Stores HELD_FRAMES, HELD_SEGMENTS, LINE_HELD_BYTES, OSEGMENTS, ISEGMENTS, LATE_SUM_NS."""
_STORED: Final = HELD_FRAMES * 8
_OSEGMENTS: Final = COUNTERS + OSEGMENTS
_REORDERED: Final = COUNTERS + REORDERED
_BUCKETS: Final = slice(LATE_BUCKETS, LATE_BUCKETS + LATE_BUCKETS_MAX)
_LATE: Final = slice(LATE, LATE + LATE_BUCKETS_MAX)


def mirror(intake: array[int], release: array[int], words: Words) -> None:
    """Copy the counters of these states to the line's slot."""
    words[:HELD_FRAMES] = memoryview(intake)[COUNTERS : COUNTERS + HELD_FRAMES]
    first = COUNTERS + IMPAIRED
    words[IMPAIRED : IMPAIRED + REASONS_MAX] = memoryview(intake)[first : first + REASONS_MAX]
    mirror_released(intake, release, words)


def mirror_released(intake: array[int], release: array[int], words: Words) -> None:
    """Copy those that a release changes."""
    words[ESEGMENTS] = release[REFUSED] + intake[COUNTERS + ESEGMENTS]
    words[_BUCKETS] = memoryview(release)[_LATE]
    mirror_held(intake, release, words)


def mirror_held(intake: array[int], release: array[int], words: Words) -> None:
    """Copy those that change where nothing is hit or released."""
    frames, segments, octets = _ever_held(intake, _EVER_HELD)
    gone_frames, gone_segments, gone_octets, delivered, late_ns = _gone(release)
    _store(
        words, _STORED,
        frames - gone_frames if frames > gone_frames else 0,
        segments - gone_segments if segments > gone_segments else 0,
        octets - gone_octets if octets > gone_octets else 0,
        intake[_OSEGMENTS], delivered + intake[_REORDERED], late_ns,
    )  # fmt: skip
