"""The decision to poll again before sleeping. Time is a parameter, in nanoseconds.

Sleeping and being woken costs more than forwarding: on a virtual machine half of a round trip. So a worker
that has just forwarded polls for a while. That is CPU time well spent only when frames arrive and when no
other task needs the core: the sender or the receiver of a stream may share it with the worker, and has more
use for it. Therefore

- between two polls the caller offers the core to other tasks (sched_yield). When one took it, and no frame
  had arrived by then, the worker sleeps at once;
- a worker that has polled in vain several times in a row, for either reason, rests: it sleeps as soon as
  there is nothing to do, and tries again now and then, less and less often. Each try may delay a packet: a
  computing task that is offered the core keeps it until the next tick, some milliseconds.
"""

from __future__ import annotations

from typing import Final

VAIN_MAX: Final = 8
"""Number of spins in vain in a row after which the worker rests."""
REST: Final = 31
"""Number of bursts that it forwards without spinning before it tries again; doubled by each try in vain."""
REST_MAX: Final = 32 * REST
"""Limit of that number: 50 ms of packets that answer each other, half a second at 2000 packets a second."""
TAKEN_NS: Final = 10_000
"""Time between two polls from which another task had the core; a turn of the loop alone takes 2000."""


class Spin:
    """Decides for one worker."""

    __slots__ = (
        "_found", "_polled_ns", "_polling", "_rest", "_resting", "_spin_ns", "_taken", "_until_ns", "_vain",
    )  # fmt: skip

    def __init__(self, spin_us: int) -> None:
        """``spin_us`` is how long to poll after the last frame, in microseconds; 0 disables it."""
        self._spin_ns = spin_us * 1000
        self._until_ns = 0
        self._polled_ns = 0
        self._polling = False
        self._taken = False
        self._found = False
        self._vain = 0
        self._rest = REST
        self._resting = 0

    def tune(self, spin_us: int) -> None:
        """Replace ``spin_us``."""
        self._spin_ns = spin_us * 1000

    def forwarded(self, now_ns: int) -> bool:
        """Note that a burst was forwarded; return True when the caller is to begin polling."""
        self._until_ns = now_ns + self._spin_ns
        self._polled_ns = now_ns
        self._taken = False
        if self._polling:
            self._found = True
            return False
        if not self._spin_ns:
            return False
        if self._resting:
            self._resting -= 1
            return False
        self._polling = True
        self._found = False
        return True

    def poll_again(self, now_ns: int) -> bool:
        """Note that a poll found nothing new; return whether to poll again, or else to sleep."""
        if not self._taken:
            self._taken = now_ns - self._polled_ns > TAKEN_NS
            self._polled_ns = now_ns
            if now_ns < self._until_ns or self._taken:
                return True
        self._polling = False
        if self._found:
            self._vain, self._rest = 0, REST
            return False
        self._vain += 1
        if self._vain >= VAIN_MAX:
            self._resting = self._rest
            self._rest = min(2 * self._rest, REST_MAX)
        return False
