"""The rate of a line, in virtual time: when each segment has left the queue is known when it enters it.

The queue is first in, first out, and everything before a segment is decided, so its departure is the later of
now and the departure before it, and the time that its bits need. The backlog follows from that, too. No
segment needs a timer of its own, and CoDel can decide at once about what it would find at the departure.

Times are kept exactly, with the fractions of a nanosecond: a frame of 64 bytes at 10 Gbit/s takes 67.2 ns on
the wire, and nothing may drift.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from epaird.dataplane.frames import ETHERNET
from epaird.dataplane.impair.wire import OVERHEAD

SECOND: Final = 1_000_000_000
MTU_OCTETS: Final = ETHERNET + 1500 + OVERHEAD
"""Bytes on the wire of a frame with 1500 bytes of payload."""
PIECE_NS: Final = 1_000_000
"""Time of the rate that a piece of a super-frame is to have at least."""
BOTTLENECK_WORDS: Final = 4
"""Words of the state of a bottleneck, beginning with ``busy_until``."""
WAITING_GROUPS: Final = 12
"""Groups of segments that wait."""
WAITING_WORDS: Final = 1 + WAITING_GROUPS
"""Words of the state of :class:`Waiting`."""
_COUNT_BITS: Final = 20
_COUNT: Final = (1 << _COUNT_BITS) - 1
_AHEAD: Final = (1 << 64 - _COUNT_BITS) - 1
_BITS: Final = 8 * SECOND


class Bottleneck(Protocol):
    """What a queue waits for: a rate, or the delivery opportunities of a trace."""

    busy_until: int
    """CLOCK_MONOTONIC in nanoseconds when everything that was accepted has left."""

    @property
    def mean_rate(self) -> int:
        """Bits per second in the long run."""
        ...

    def start(self, now_ns: int) -> int:
        """Return when a segment that arrives now would reach the head of the queue."""
        ...

    def backlog(self, now_ns: int) -> int:
        """Return the bytes on the wire that have not left, rounded up."""
        ...

    def leave(self, now_ns: int, octets: int, segments: int) -> int:
        """Accept segments of so many bytes on the wire altogether; return when the last has left."""
        ...

    def duration(self, octets: int) -> int:
        """Return an upper bound of the time in nanoseconds that so many bytes on the wire take."""
        ...

    def words(self) -> tuple[int, ...]:
        """Return the state."""
        ...


class Shaper:
    """A constant rate."""

    __slots__ = ("_rate", "_rest", "busy_until")

    def __init__(self, rate: int, words: Sequence[int] = (0, 0)) -> None:
        """``rate`` in bits per second. Go on from ``words``, also of another bottleneck."""
        self._rate = rate
        self.busy_until = words[0]
        """CLOCK_MONOTONIC in nanoseconds, rounded down, when everything that was accepted has left."""
        self._rest = words[1] % rate
        """The fraction of a nanosecond beyond it, in units of 1 / rate."""

    @property
    def mean_rate(self) -> int:
        """Bits per second."""
        return self._rate

    def start(self, now_ns: int) -> int:
        """Return when the first bit of a segment that arrives now would be sent."""
        return max(now_ns, self.busy_until)

    def backlog(self, now_ns: int) -> int:
        """Return the bytes on the wire that have not left, rounded up."""
        if self.busy_until < now_ns:
            return 0
        return -(((now_ns - self.busy_until) * self._rate - self._rest) // _BITS)

    def leave(self, now_ns: int, octets: int, segments: int = 1) -> int:  # noqa: ARG002
        """Accept segments of so many bytes on the wire altogether; return when the last has left."""
        if self.busy_until < now_ns:
            self.busy_until = now_ns
            self._rest = 0
        took, self._rest = divmod(octets * _BITS + self._rest, self._rate)
        self.busy_until += took
        return self.busy_until

    def duration(self, octets: int) -> int:
        """Return the time in nanoseconds, rounded up, that so many bytes on the wire take."""
        return -(-octets * _BITS // self._rate)

    def words(self) -> tuple[int, ...]:
        """Return the state."""
        return self.busy_until, self._rest, 0, 0


class Waiting:
    """The number of segments in the queue, for a limit in segments.

    Segments that follow each other are counted in groups that leave evenly, from the beginning of the first
    to the end of the last. That is exact where they are equally long, and for limits up to 11, where each is
    a group. So a few words are the whole state.
    """

    __slots__ = ("_begin", "_groups", "_size", "_total")

    def __init__(self, limit: int, busy_until: int, words: Sequence[int] = ()) -> None:
        """``limit`` is the number of segments to count up to. Go on from ``words``, which were taken when the
        bottleneck had this ``busy_until``."""
        self._size = max(1, -(-limit // (WAITING_GROUPS - 1)))
        self._begin = words[0] if words else 0
        """When the first group began to leave."""
        self._groups = deque(
            [busy_until - (word >> _COUNT_BITS), word & _COUNT] for word in words[1:] if word
        )
        """When each group has left, and its segments."""
        self._total = sum(count for _, count in self._groups)

    def count(self, now_ns: int) -> int:
        """Return the number of segments that have not left."""
        groups = self._groups
        while groups and groups[0][0] <= now_ns:
            self._begin, count = groups.popleft()
            self._total -= count
        if not groups:
            return 0
        end, count = groups[0]
        if self._begin >= now_ns:
            return self._total
        return self._total - (now_ns - self._begin) * count // (end - self._begin)

    def add(self, begin: int, departure: int, segments: int) -> None:
        """Add segments that are the last to leave, at ``departure``; the first of them begins at
        ``begin``."""
        groups = self._groups
        self._total += segments
        if groups and (groups[-1][1] < self._size or len(groups) == WAITING_GROUPS):
            groups[-1][0] = departure
            groups[-1][1] += segments
            return
        if not groups:
            self._begin = begin
        groups.append([departure, segments])

    def words(self, busy_until: int) -> tuple[int, ...]:
        """Return the state: :data:`WAITING_WORDS` words."""
        words = [self._begin]
        for departure, count in self._groups:
            ahead = min(max(0, busy_until - departure), _AHEAD)
            words.append(ahead << _COUNT_BITS | min(count, _COUNT))
        words += (0,) * (WAITING_WORDS - len(words))
        return tuple(words)
