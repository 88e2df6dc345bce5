"""Delivery opportunities from a trace, as mahimahi's mm-link uses them, in virtual time.

An opportunity is a moment at which :data:`OPPORTUNITY_OCTETS` bytes can leave. It serves the segments that
arrived before it, in order; what one segment leaves of it serves the next, and what nobody uses is lost. A
segment that needs more than is left goes on with the opportunities that follow and leaves with its last byte.
The last time of a trace is also its period: then it begins again. Several opportunities may have the same
time.

mahimahi counts what its TUN device reads: the IP packet and 4 bytes before it. Here an Ethernet frame of the
same packet has :data:`FRAMING` bytes more on the wire.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from epaird.dataplane.frames import ETHERNET
from epaird.dataplane.impair.shaper import SECOND
from epaird.dataplane.impair.streams import NEVER, mixed
from epaird.dataplane.impair.wire import OVERHEAD

OPPORTUNITY_OCTETS: Final = 1504
"""Bytes of an opportunity."""
FRAMING: Final = ETHERNET + OVERHEAD - 4
"""Bytes on the wire that do not count: all but the IP packet, less the 4 bytes that mahimahi counts before
it."""


class Opportunities:
    """A trace that repeats."""

    __slots__ = ("_at", "_fingerprint", "_left", "_next", "_times", "busy_until")

    def __init__(self, times: Sequence[int], applied_ns: int, words: Sequence[int] = (0, 0)) -> None:
        """``times`` are nanoseconds in ascending order, counted from ``applied_ns``. Go on from ``words``,
        also of another bottleneck. Raise ValueError for a trace that takes no time."""
        if not times or times[-1] <= 0:
            raise ValueError("a trace needs a time after 0")
        self._times = times
        self._at = applied_ns
        self.busy_until = words[0]
        """CLOCK_MONOTONIC in nanoseconds when everything that was accepted has left."""
        self._fingerprint = mixed(mixed(mixed(applied_ns) ^ len(times)) ^ times[-1])
        self._next = 0
        """Number of the opportunity behind the one in use, over all repetitions."""
        self._left = 0
        """Bytes that are left of the one in use."""
        if words[1] == self._fingerprint:
            # A ring is not trusted: nothing of an opportunity is left that is later than what was accepted.
            self._next = min(words[2], self._after(self.busy_until))
            self._left = min(words[3], OPPORTUNITY_OCTETS)
        else:
            self._next = self._after(self.busy_until)

    @property
    def mean_rate(self) -> int:
        """Bits per second on the wire, of segments that use a whole opportunity each."""
        octets = OPPORTUNITY_OCTETS + FRAMING
        return max(1, octets * 8 * SECOND * len(self._times) // self._times[-1])

    def start(self, now_ns: int) -> int:
        """Return the opportunity that sends the first byte of a segment that arrives now."""
        if self._left and self.busy_until > now_ns:
            return self.busy_until
        return self._time(max(self._next, self._after(now_ns)))

    def backlog(self, now_ns: int) -> int:
        """Return the bytes of opportunities that what has not left still needs."""
        if self.busy_until <= now_ns:
            return 0
        return (self._next - self._after(now_ns)) * OPPORTUNITY_OCTETS - self._left

    def leave(self, now_ns: int, octets: int, segments: int = 1) -> int:
        """Accept segments of so many bytes on the wire altogether; return when the last has left."""
        if self.busy_until <= now_ns:
            self._left = 0
            self._next = max(self._next, self._after(now_ns))
        missing = max(1, octets - FRAMING * segments) - self._left
        if missing > 0:
            opportunities = -(-missing // OPPORTUNITY_OCTETS)
            self._next += opportunities
            self.busy_until = self._time(self._next - 1)
            missing -= opportunities * OPPORTUNITY_OCTETS
        self._left = -missing
        return self.busy_until

    def duration(self, octets: int) -> int:  # noqa: ARG002
        """Return an upper bound of the time in nanoseconds that so many bytes take: none is known."""
        return NEVER

    def words(self) -> tuple[int, ...]:
        """Return the state."""
        return self.busy_until, self._fingerprint, self._next, self._left

    def _time(self, number: int) -> int:
        """Return when an opportunity is."""
        period, index = divmod(number, len(self._times))
        return self._at + period * self._times[-1] + self._times[index]

    def _after(self, now_ns: int) -> int:
        """Return the number of the first opportunity after a moment."""
        if now_ns < self._at:
            return 0
        period, rest = divmod(now_ns - self._at, self._times[-1])
        return period * len(self._times) + bisect_right(self._times, rest)
