"""The words for what happens to a segment."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple


class Fate(IntEnum):
    """What happens to a segment other than being delivered once, whole and in order. The numbers are written
    to the log of decisions."""

    LOSS = 1
    """Dropped by the line's loss process."""
    BER = 2
    """Dropped for a wrong bit."""
    SCHEDULE = 3
    """Dropped by a loss process that a phase of the schedule brought."""
    DUPLICATE = 4
    """Delivered twice."""
    CORRUPT = 5
    """Delivered with a wrong bit."""
    REORDER = 6
    """Delivered before those that wait."""
    QUEUE_FULL = 7
    """Dropped at the limit of the queue."""
    AQM = 8
    """Dropped by CoDel."""
    MARK = 9
    """Marked by CoDel and delivered."""


DROPS: Final = frozenset({Fate.LOSS, Fate.BER, Fate.SCHEDULE, Fate.QUEUE_FULL, Fate.AQM})
"""Fates of segments that are not delivered."""


class Hit(NamedTuple):
    """A decision about one segment."""

    segment: int
    """Its number, from 0 for the first segment of the call."""
    fate: Fate
    """What happens to it."""


def only_drops(hits: Sequence[Hit]) -> bool:
    """Return whether these drop a segment each, and no segment has another fate."""
    return len(dict(hits)) == len(hits) and all(fate in DROPS for _, fate in hits)
