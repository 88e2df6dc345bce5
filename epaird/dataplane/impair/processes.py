"""The random processes of a line, side by side: losses, bit errors, duplicates, corruption, reordering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from epaird.dataplane.impair.fates import Fate, Hit
from epaird.dataplane.impair.hits import CHAIN_WORDS, HITS_WORDS, ChainHits, Hits
from epaird.dataplane.impair.streams import Stream, StreamNumber
from epaird.dataplane.impair.wire import UNCHECKED
from epaird.ipc.impairment import LineParameters

PROCESSES_WORDS: Final = CHAIN_WORDS + 4 * HITS_WORDS
"""Words of the state of :class:`Processes`."""
UNCHECKED_BITS: Final = 8 * UNCHECKED
"""Bits of a frame on the wire that its check sequence does not protect: preamble and gap."""


class Processes:
    """The processes of one set of parameters. Each has a stream of its own."""

    __slots__ = (
        "_ber", "_corrupt", "_duplicate", "_loss", "_loss_fate", "_others", "_reorder", "_words", "next",
        "next_bit",
    )  # fmt: skip

    def __init__(
        self, seed: int, parameters: LineParameters, loss: Fate, segment: int, bit: int, words: Sequence[int]
    ) -> None:
        """``loss`` is the fate of what the loss process hits. Each process goes on from its part of ``words``
        if it has the same parameters, and is else drawn from ``segment``, or from ``bit``, on."""
        self._loss_fate = loss
        self._loss = ChainHits(
            Stream(seed, StreamNumber.LOSS),
            Stream(seed, StreamNumber.LOSS_STATES),
            parameters.loss,
            segment,
            words[:CHAIN_WORDS],
        )
        saved = words[CHAIN_WORDS:]
        self._ber = Hits(Stream(seed, StreamNumber.BER), parameters.ber, bit, saved)
        saved = saved[HITS_WORDS:]
        self._duplicate = Hits(Stream(seed, StreamNumber.DUPLICATE), parameters.duplicate, segment, saved)
        saved = saved[HITS_WORDS:]
        self._corrupt = Hits(Stream(seed, StreamNumber.CORRUPT), parameters.corrupt, segment, saved)
        saved = saved[HITS_WORDS:]
        self._reorder = Hits(Stream(seed, StreamNumber.REORDER), parameters.reorder, segment, saved)
        self._others = 0
        """The next segment that is hit, other than by a loss."""
        self._words: tuple[int, ...] = ()
        """The state, other than that of the losses."""
        self.next_bit = 0
        """The next bit that is wrong."""
        self._look()
        self.next = min(self._loss.next, self._others)
        """The next segment that something may happen to."""

    def hits(self, first: int, bit: int, sizes: Sequence[int], stop_bit: int) -> list[Hit]:
        """Return the fates of the next segments, the first of which has the number ``first`` and begins with
        ``bit``, in order; ``stop_bit`` is the bit behind the last. A segment that is dropped has no other
        fate."""
        stop = first + len(sizes)
        fate, lost = self._loss_fate, self._loss.take(stop)
        if self._others >= stop and self.next_bit >= stop_bit:
            self.next = min(self._loss.next, self._others)
            return [Hit(place - first, fate) for place in lost]
        dropped = self._bit_errors(bit, sizes)
        dropped.update((place - first, fate) for place in lost)
        found = [Hit(segment, fate) for segment, fate in dropped.items()]
        for process, fate in (
            (self._duplicate, Fate.DUPLICATE),
            (self._corrupt, Fate.CORRUPT),
            (self._reorder, Fate.REORDER),
        ):
            segments = (place - first for place in process.take(stop))
            found += [Hit(segment, fate) for segment in segments if segment not in dropped]
        self._look()
        self.next = min(self._loss.next, self._others)
        found.sort()
        return found

    def words(self) -> tuple[int, ...]:
        """Return the state."""
        return self._loss.words() + self._words

    def _bit_errors(self, bit: int, sizes: Sequence[int]) -> dict[int, Fate]:
        """Return the segments with a wrong bit. One is enough: the draw goes on behind the segment."""
        found: dict[int, Fate] = {}
        process = self._ber
        for segment, size in enumerate(sizes):
            bit += 8 * size - UNCHECKED_BITS
            if process.next < bit:
                found[segment] = Fate.BER
                process.draw(bit)
        return found

    def _look(self) -> None:
        """Note what is next, other than a loss."""
        self._others = min(self._duplicate.next, self._corrupt.next, self._reorder.next)
        self.next_bit = self._ber.next
        processes = (self._ber, self._duplicate, self._corrupt, self._reorder)
        self._words = tuple(word for process in processes for word in process.words())
