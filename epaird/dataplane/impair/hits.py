"""Which segments are hit: the places of rare events, each drawn as the distance from the one before.

A burst in which nothing happens costs one comparison with the next place. Places are numbers of segments in
one direction, or of bits. A successor continues from a few words. They begin with a fingerprint of
the seed, the stream and the probabilities: a process continues wherever these are equal, across processes,
changes of the impairment and phases of its schedule, and is drawn anew where one of them differs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from epaird.dataplane.impair.streams import NEVER, Stream, scale_of
from epaird.ipc.impairment import LossChain

HITS_WORDS: Final = 2
"""Words of the state of :class:`Hits`."""
CHAIN_WORDS: Final = 4
"""Words of the state of :class:`ChainHits`."""
_STATES_AHEAD: Final = 8
"""States that one draw passes through. A chain that changes its state far more often than it loses a segment
would otherwise take a long time for one draw."""


class Hits:
    """Places that are hit independently of each other."""

    __slots__ = ("_fingerprint", "_scale", "_stream", "next")

    def __init__(self, stream: Stream, probability: float, start: int, words: Sequence[int] = ()) -> None:
        """Go on from the state in ``words`` if it is of the same process; else draw the places from ``start``
        on. A place before ``start`` is not of a line's making, and would be a long way to go."""
        self._scale = scale_of(probability)
        self._stream = stream
        self._fingerprint = stream.fingerprint(probability)
        self.next = NEVER
        """The next place that is hit."""
        if words and words[0] == self._fingerprint and words[1] >= start:
            self.next = words[1]
        else:
            self.draw(start)

    def draw(self, start: int) -> None:
        """Draw the first place from ``start`` on."""
        place = start + self._stream.failures(start, self._scale)
        self.next = min(NEVER, place)

    def take(self, stop: int) -> list[int]:
        """Return the places before ``stop`` that are hit, and go on behind them."""
        found = []
        while self.next < stop:
            found.append(self.next)
            self.draw(self.next + 1)
        return found

    def words(self) -> tuple[int, int]:
        """Return the state."""
        return self._fingerprint, self.next


class ChainHits:
    """Places that are hit in runs: a Gilbert-Elliott chain.

    The chain is in one state until an end that is drawn when the state begins; within a state, hits are
    independent. A chain whose next state does not depend on the present one has no memory. It needs no
    states: one draw finds the next hit.
    """

    __slots__ = ("_bad", "_end", "_fingerprint", "_found", "_hits", "_leaving", "_scales", "_states", "next")

    def __init__(
        self, hits: Stream, states: Stream, chain: LossChain, start: int, words: Sequence[int] = ()
    ) -> None:
        """Go on from the state in ``words`` as :class:`Hits`; else draw the places from ``start`` on. The
        first state is drawn, too, as often bad as in the long run."""
        p, r, good = chain.p, chain.r, chain.good
        if math.isclose(p + r, 1):
            p, r, good = 0.0, 1.0, p * chain.bad + r * good
        self._hits = hits
        self._states = states
        self._scales = scale_of(good), scale_of(chain.bad)
        self._leaving = scale_of(p), scale_of(r)
        self._fingerprint = hits.fingerprint(chain.p, chain.r, chain.bad, chain.good)
        if words and words[0] == self._fingerprint and words[1] >= start:
            self.next, self._end = words[1], words[2]
            self._bad, self._found = words[3] & 1, bool(words[3] & 2)
            return
        self.next = NEVER
        """The next place to stop at. It is hit, or the draw goes on from there."""
        self._found = False
        self._bad = int(p > 0 and states.unit(start ^ NEVER) <= p / (p + r))
        """1 in the bad state, 0 in the good one: the index of its numbers."""
        self._end = start
        """The place at which the present state ends."""
        self._stay(start)
        self._draw(start)

    def take(self, stop: int) -> list[int]:
        """Return the places before ``stop`` that are hit, and go on behind them."""
        found = []
        while self.next < stop:
            if self._found:
                found.append(self.next)
                self._draw(self.next + 1)
            else:
                self._draw(self.next)
        return found

    def words(self) -> tuple[int, int, int, int]:
        """Return the state."""
        return self._fingerprint, self.next, self._end, self._bad | self._found << 1

    def _draw(self, start: int) -> None:
        """Draw the first place from ``start`` on, which is in the present state or at its end."""
        for _ in range(_STATES_AHEAD):
            if start >= self._end:
                self._bad ^= 1
                self._stay(start)
            place = start + self._hits.failures(start, self._scales[self._bad])
            if place < self._end or self._end >= NEVER:
                self.next, self._found = min(NEVER, place), True
                return
            start = self._end
        self.next, self._found = start, False

    def _stay(self, start: int) -> None:
        """Draw the end of the state that begins at ``start``."""
        end = start + 1 + self._states.failures(start, self._leaving[self._bad])
        self._end = min(NEVER, end)
