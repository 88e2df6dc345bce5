"""The queue before the rate of a line: its limit and its management."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from epaird.dataplane.impair.codel import CODEL_WORDS, Advice, CoDel, target_of
from epaird.dataplane.impair.fates import Fate
from epaird.dataplane.impair.shaper import BOTTLENECK_WORDS, WAITING_WORDS, Bottleneck, Waiting
from epaird.ipc.impairment import LineParameters

QUEUE_WORDS: Final = BOTTLENECK_WORDS + WAITING_WORDS + CODEL_WORDS
"""Words of the state of :class:`LineQueue`."""
_CODEL: Final = BOTTLENECK_WORDS + WAITING_WORDS
_NOTHING_WAITS: Final = (0,) * WAITING_WORDS
_NO_CODEL: Final = (0,) * CODEL_WORDS


class LineQueue:
    """The queue before one bottleneck. Without a limit it has none: delay never drops."""

    __slots__ = ("_bottleneck", "_codel", "_ecn", "_limit_bytes", "_limit_segments", "_waiting", "marked")

    def __init__(self, bottleneck: Bottleneck, parameters: LineParameters, words: Sequence[int]) -> None:
        """Go on from ``words``, whose part for the bottleneck the caller has used."""
        waiting, codel = words[BOTTLENECK_WORDS:_CODEL], words[_CODEL:QUEUE_WORDS]
        self._bottleneck = bottleneck
        self._limit_bytes = parameters.limit_bytes
        self._limit_segments = parameters.limit_segments
        self._waiting: Waiting | None = None
        if self._limit_segments:
            self._waiting = Waiting(self._limit_segments, bottleneck.busy_until, waiting)
        self._codel = CoDel(target_of(bottleneck.mean_rate), codel) if parameters.codel else None
        self._ecn = parameters.ecn
        self.marked = False
        """True where the segments of the last :meth:`offer` are to be marked."""

    def offer(self, now_ns: int, octets: int, segments: int, *, ecn_capable: bool) -> int | Fate:
        """Return when the last of these segments has left, of so many bytes on the wire altogether, or why
        they are dropped. A refusal of more than one segment changes nothing."""
        if (self._limit_bytes or self._waiting is not None) and self._full(now_ns, octets, segments):
            return Fate.QUEUE_FULL
        if self._codel is not None:
            advice = self._advice(self._codel, now_ns, octets, segments, markable=ecn_capable and self._ecn)
            if advice is Advice.DROP:
                return Fate.AQM
            self.marked = advice is Advice.MARK
        if self._waiting is None:
            return self._bottleneck.leave(now_ns, octets, segments)
        begin = self._bottleneck.start(now_ns)
        left = self._bottleneck.leave(now_ns, octets, segments)
        self._waiting.add(begin, left, segments)
        return left

    def words(self) -> tuple[int, ...]:
        """Return the state."""
        waiting = (
            _NOTHING_WAITS if self._waiting is None else self._waiting.words(self._bottleneck.busy_until)
        )
        codel = _NO_CODEL if self._codel is None else self._codel.words()
        return self._bottleneck.words() + waiting + codel

    def _full(self, now_ns: int, octets: int, segments: int) -> bool:
        """Return whether there is no room. A queue that is empty takes one segment however small the limit
        is."""
        waiting = self._waiting.count(now_ns) if self._waiting is not None else 0
        backlog = self._bottleneck.backlog(now_ns)
        if not backlog and segments == 1:
            return False
        if self._limit_bytes and backlog + octets > self._limit_bytes:
            return True
        return self._limit_segments > 0 and waiting + segments > self._limit_segments

    def _advice(self, codel: CoDel, now_ns: int, octets: int, segments: int, *, markable: bool) -> Advice:
        start = self._bottleneck.start(now_ns)
        if segments > 1:
            end = start + self._bottleneck.duration(octets)
            return Advice.PASS if codel.idle and end - now_ns < codel.target_ns else Advice.DROP
        backlog = self._bottleneck.backlog(now_ns)
        return codel.decide(start, start - now_ns, backlog, markable=markable)
