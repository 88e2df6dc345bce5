"""Whether to look again before sleeping.  Time is a parameter, in nanoseconds.

To sleep and be woken costs more than to forward: on a virtual machine half of a round trip.  So a worker
that has just forwarded looks again for a while.  That is CPU time well spent only when something comes;
a worker that has looked in vain several times in a row rests, and tries again now and then.
"""

from __future__ import annotations

from typing import Final

VAIN_MAX: Final = 8
"""So many looks in vain in a row, and it rests."""
REST: Final = 31
"""So many bursts it forwards without looking again, before it tries once more."""


class Spin:
    """The looks of one worker."""

    __slots__ = ("_found", "_looking", "_resting", "_spin_ns", "_until_ns", "_vain")

    def __init__(self, spin_us: int) -> None:
        """``spin_us`` is how long to look, in microseconds; 0 is never."""
        self._spin_ns = spin_us * 1000
        self._until_ns = 0
        self._looking = False
        self._found = False
        self._vain = 0
        self._resting = 0

    def forwarded(self, now_ns: int) -> bool:
        """Something was forwarded; True when the caller shall begin to look again."""
        if self._looking:
            self._found = True
            self._until_ns = now_ns + self._spin_ns
            return False
        if not self._spin_ns:
            return False
        if self._resting:
            self._resting -= 1
            return False
        self._looking = True
        self._found = False
        self._until_ns = now_ns + self._spin_ns
        return True

    def look_again(self, now_ns: int) -> bool:
        """Whether to go on looking; once False the caller sleeps."""
        if now_ns < self._until_ns:
            return True
        self._looking = False
        self._vain = 0 if self._found else self._vain + 1
        if self._vain >= VAIN_MAX:
            self._resting = REST
        return False
