"""CoDel (RFC 8289), decided when a segment arrives.

The queue is first in, first out and its rate is known, so a segment's sojourn is known when it arrives, and
so is the moment at which it would reach the head of the queue. CoDel decides there; between two segments
nothing happens to its state. So what it does with each segment can be decided at once, in the order of
arrival, and the result is what it would be at the head of the queue, except for two conditions:

- CoDel does not drop while the queue holds no more than one packet of full size. That counts what arrives
  later, too. Here it is what is before the segment that counts.
- A hard limit counts segments that CoDel will drop until they reach the head of the queue. Here they do not
  take room.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from epaird.dataplane.impair.shaper import MTU_OCTETS, SECOND

TARGET_NS: Final = 5_000_000
"""Acceptable sojourn in nanoseconds."""
INTERVAL_NS: Final = 100_000_000
"""Time in nanoseconds in which the sojourn must be acceptable at least once."""
CODEL_WORDS: Final = 5
"""Words of the state of :class:`CoDel`."""
_RECENT: Final = 16 * INTERVAL_NS


class Advice(Enum):
    """What CoDel does with a segment."""

    PASS = auto()
    MARK = auto()
    DROP = auto()


def target_of(rate: int) -> int:
    """Return the target in nanoseconds for a rate: at least the time that one packet of full size takes."""
    return max(TARGET_NS, MTU_OCTETS * 8 * SECOND // max(1, rate))


class CoDel:
    """The state of CoDel for one queue."""

    __slots__ = (
        "_above_until",
        "_after_drop",
        "_count",
        "_drop_next",
        "_dropping",
        "_last_count",
        "target_ns",
    )

    def __init__(self, target_ns: int, words: Sequence[int] = ()) -> None:
        """``words`` is the state to go on from."""
        self.target_ns = target_ns
        """Acceptable sojourn in nanoseconds."""
        self._above_until, self._drop_next, self._count, self._last_count, flags = words or (0, 0, 0, 0, 0)
        # A ring is not trusted: while it drops, it has dropped one at least.
        self._dropping = bool(flags & 1) and self._count > 0
        self._after_drop = flags >> 1
        """What the segment before this one leaves to decide: 1 after the drop that began to drop, 2 after
        another."""

    def words(self) -> tuple[int, ...]:
        """Return the state."""
        flags = self._dropping | self._after_drop << 1
        return self._above_until, self._drop_next, self._count, self._last_count, flags

    @property
    def idle(self) -> bool:
        """True where a segment whose sojourn is acceptable changes nothing."""
        return not (self._dropping or self._above_until or self._after_drop)

    def decide(self, start_ns: int, sojourn_ns: int, backlog: int, *, markable: bool) -> Advice:
        """Decide about a segment that reaches the head of the queue at ``start_ns``. ``backlog`` is the
        number of bytes before it when it arrived; ``markable`` is True where a mark replaces a drop."""
        may_drop = self._may_drop(start_ns, sojourn_ns, backlog)
        after, self._after_drop = self._after_drop, 0
        if after == 1:
            return Advice.PASS
        if not self._dropping:
            return self._begin(start_ns, markable=markable) if may_drop else Advice.PASS
        if not may_drop:
            self._dropping = False
            return Advice.PASS
        if after == 2:
            self._drop_next = self._law(self._drop_next)
        if start_ns < self._drop_next:
            return Advice.PASS
        self._count += 1
        if markable:
            self._drop_next = self._law(self._drop_next)
            return Advice.MARK
        self._after_drop = 2
        return Advice.DROP

    def _may_drop(self, start_ns: int, sojourn_ns: int, backlog: int) -> bool:
        if sojourn_ns < self.target_ns or backlog <= MTU_OCTETS:
            self._above_until = 0
            return False
        if not self._above_until:
            self._above_until = start_ns + INTERVAL_NS
            return False
        return start_ns >= self._above_until

    def _begin(self, start_ns: int, *, markable: bool) -> Advice:
        """Begin to drop. Where CoDel dropped not long ago, it goes on at the rate that it had reached."""
        self._dropping = True
        grown = self._count - self._last_count
        recent = start_ns - self._drop_next < _RECENT
        self._count = grown if grown > 1 and recent else 1
        self._last_count = self._count
        self._drop_next = self._law(start_ns)
        if markable:
            return Advice.MARK
        self._after_drop = 1
        return Advice.DROP

    def _law(self, from_ns: int) -> int:
        return from_ns + int(INTERVAL_NS / math.sqrt(self._count))
