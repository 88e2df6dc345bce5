"""Whether to look again before sleeping.  Time is a parameter, in nanoseconds.

To sleep and be woken costs more than to forward: on a virtual machine half of a round trip.  So a worker
that has just forwarded looks again for a while.  That is CPU time well spent only when something comes,
and when nobody else wants the core: the sender or the receiver of a stream may share it with the
worker, and has more use for it.  So

- between two looks the caller offers the core to others (sched_yield); when somebody took it, and nothing
  had come by then, the core is wanted more elsewhere, and the worker sleeps at once;
- a worker that has looked in vain several times in a row, for either reason, rests: it sleeps as soon as
  there is nothing to do, and tries again now and then, less and less often.  Each try may cost a packet: what
  computes on the same core, and is given it by the offer, keeps it until the next tick, some milliseconds.
"""

from __future__ import annotations

from typing import Final

VAIN_MAX: Final = 8
"""So many looks in vain in a row, and it rests."""
REST: Final = 31
"""So many bursts it forwards without looking again, before it tries once more; in vain, twice as many."""
REST_MAX: Final = 32 * REST
"""At most so many: 50 ms of packets that answer each other, half a second of 2000 in a second."""
TAKEN_NS: Final = 10_000
"""Between two looks so far apart somebody else had the core; by itself a turn of the loop takes 2000."""


class Spin:
    """The looks of one worker."""

    __slots__ = (
        "_found", "_looked_ns", "_looking", "_rest", "_resting", "_spin_ns", "_taken", "_until_ns", "_vain",
    )  # fmt: skip

    def __init__(self, spin_us: int) -> None:
        """``spin_us`` is how long to look, in microseconds; 0 is never."""
        self._spin_ns = spin_us * 1000
        self._until_ns = 0
        self._looked_ns = 0
        self._looking = False
        self._taken = False
        self._found = False
        self._vain = 0
        self._rest = REST
        self._resting = 0

    def look_for(self, spin_us: int) -> None:
        """Look for so long from now on, in microseconds."""
        self._spin_ns = spin_us * 1000

    def forwarded(self, now_ns: int) -> bool:
        """Something was forwarded; True when the caller shall begin to look again."""
        self._until_ns = now_ns + self._spin_ns
        self._looked_ns = now_ns
        self._taken = False
        if self._looking:
            self._found = True
            return False
        if not self._spin_ns:
            return False
        if self._resting:
            self._resting -= 1
            return False
        self._looking = True
        self._found = False
        return True

    def look_again(self, now_ns: int) -> bool:
        """Whether to go on looking; once False the caller sleeps."""
        if not self._taken:
            self._taken = now_ns - self._looked_ns > TAKEN_NS
            self._looked_ns = now_ns
            if now_ns < self._until_ns or self._taken:
                return True
        self._looking = False
        if self._found:
            self._vain, self._rest = 0, REST
            return False
        self._vain += 1
        if self._vain >= VAIN_MAX:
            self._resting = self._rest
            self._rest = min(2 * self._rest, REST_MAX)
        return False
