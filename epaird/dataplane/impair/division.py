"""What becomes of one frame: which of its segments stay together, and when each part is due. No I/O.

A frame whose segments are hit by nothing stays whole. Otherwise it is divided at what is hit, and at a rate
so low that it would take more than a millisecond."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from epaird.dataplane.impair.decisions import Decisions
from epaird.dataplane.impair.fates import DROPS, Fate, Hit
from epaird.dataplane.impair.pieces import wire_octets
from epaird.dataplane.superframe import Shape
from epaird.ipc.counters import IMPAIRED, LINE_REASONS

DROP_WORDS: Final[Mapping[Fate, int]] = {
    fate: IMPAIRED + LINE_REASONS.index(fate.name.lower()) for fate in sorted(DROPS)
}
"""The line's counter of each fate of segments that are not delivered."""
_CHANGES: Final = (Fate.CORRUPT, Fate.MARK)
"""What is done to a segment that is delivered; a replay has marks, too."""


class Part(NamedTuple):
    """Segments of a frame that stay together."""

    start: int
    """The first of them."""
    stop: int
    """The one after the last."""
    deadline: int
    """When they are due."""
    fate: Fate | None
    """CORRUPT or MARK, where that is to be done to it; then it is one segment."""


def change_of(fates: Collection[Fate]) -> Fate | None:
    """Return what is done to a segment with these fates: CORRUPT, MARK, or nothing."""
    return next((fate for fate in _CHANGES if fate in fates), None)


def by_segment(hits: Sequence[Hit]) -> dict[int, list[Fate]]:
    """Return the fates of each segment that has any."""
    found: defaultdict[int, list[Fate]] = defaultdict(list)
    for segment, fate in hits:
        found[segment].append(fate)
    return found


class Division:
    """The division of one frame."""

    def __init__(
        self,
        decisions: Decisions,
        shape: Shape,
        now_ns: int,
        *,
        markable: bool,
        overtake: Callable[[int, Collection[Fate]], bool],
    ) -> None:
        """``markable`` is whether the frame is ECN-capable. ``overtake`` delivers a segment at once, which
        has some fates, and returns whether that was possible."""
        self.parts: list[Part] = []
        """What stays, in order."""
        self.fates: list[tuple[int, Fate]] = []
        """Decisions about single segments: the number in the frame, and the fate."""
        self.twice: list[int] = []
        """Segments that are delivered twice."""
        self.overtaken = 0
        """Segments that were delivered at once."""
        self._decisions = decisions
        self._shape = shape
        self._now_ns = now_ns
        self._markable = markable
        self._overtake = overtake

    @property
    def dropped(self) -> int:
        """Number of segments that are not delivered."""
        return sum(fate in DROPS for _, fate in self.fates)

    def divide(self, hits: Sequence[Hit]) -> None:
        """Divide the frame, whose segments have these hits."""
        start = 0
        for segment, fates in by_segment(hits).items():
            self.fates += [(segment, fate) for fate in fates]
            if fates == [Fate.DUPLICATE]:
                self.twice.append(segment)
                continue
            self._stay(start, segment)
            start = segment + 1
            if fates[0] in DROPS:
                continue
            if Fate.REORDER in fates and self._overtake(segment, fates):
                self.overtaken += 1
            elif not self._ask(segment, start, change_of(fates)):
                continue
            if Fate.DUPLICATE in fates:
                self.twice.append(segment)
        self._stay(start, self._shape.segments)
        lost = {segment for segment, fate in self.fates if fate in DROPS}
        self.twice = [segment for segment in self.twice if segment not in lost]

    def _stay(self, start: int, stop: int) -> None:
        """Ask when segments are due that nothing else happens to."""
        for first, last in self._chunks(start, stop):
            if not self._ask(first, last, None) and last - first > 1:
                for segment in range(first, last):
                    self._ask(segment, segment + 1, None)

    def _chunks(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        if start >= stop:
            return
        step = stop - start
        if self._decisions.shaped:
            step = max(1, self._decisions.piece_octets // wire_octets(self._shape, start))
        for first in range(start, stop, step):
            yield first, min(first + step, stop)

    def _ask(self, start: int, stop: int, fate: Fate | None) -> bool:
        """Add a part; False when it is refused. That is a decision where it is one segment."""
        shape, decisions = self._shape, self._decisions
        octets = (stop - start - 1) * wire_octets(shape, start) + wire_octets(shape, stop - 1)
        due = decisions.deadline(self._now_ns, octets, stop - start, self._markable)
        if isinstance(due, Fate):
            if stop - start == 1:
                self.fates.append((start, due))
            return False
        if decisions.marked and stop - start == 1:
            self.fates.append((start, Fate.MARK))
            fate = fate or Fate.MARK
        self.parts.append(Part(start, stop, due, fate))
        return True
