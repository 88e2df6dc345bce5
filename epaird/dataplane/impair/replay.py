"""Decisions that come from a file instead of random processes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from epaird.dataplane.impair.fates import DROPS, Fate, Hit
from epaird.dataplane.impair.streams import NEVER

_FATES: Final = {int(fate): fate for fate in Fate}


class Replay:
    """Pairs of a segment's number and its fate, in ascending order. A fate that is not known is none.

    A log can have several fates of one segment: a duplicate, and then the queue was full. As with the
    processes, a segment that is dropped has no other fate."""

    __slots__ = ("_count", "_index", "_numbers", "_origin", "next", "next_bit")

    def __init__(self, numbers: Sequence[int], origin: int, start: int) -> None:
        """``numbers`` alternates segments, counted from ``origin``, and fates. Go on from segment
        ``start``."""
        self._numbers = numbers
        self._count = len(numbers) // 2
        self._index = bisect_left(range(self._count), start - origin, key=lambda index: numbers[2 * index])
        self._origin = origin
        self.next = NEVER
        """The next segment that has a fate."""
        self.next_bit = NEVER
        """The next bit that is wrong: none, what it did to its segment is in the file."""
        self._look()

    def hits(self, first: int, bit: int, sizes: Sequence[int], stop_bit: int) -> list[Hit]:  # noqa: ARG002
        """Return the fates of the next segments, the first of which has the number ``first``."""
        found: list[Hit] = []
        dropped: dict[int, Hit] = {}
        stop = first + len(sizes)
        while self.next < stop:
            fate = _FATES.get(self._numbers[2 * self._index + 1])
            if fate is not None and self.next >= first:
                hit = Hit(self.next - first, fate)
                found.append(hit)
                if fate in DROPS:
                    dropped.setdefault(hit.segment, hit)
            self._index += 1
            self._look()
        return [hit for hit in found if dropped.get(hit.segment, hit) is hit] if dropped else found

    def _look(self) -> None:
        if self._index < self._count:
            self.next = min(NEVER, self._origin + self._numbers[2 * self._index])
        else:
            self.next = NEVER
