"""The random processes of a line, side by side: losses, bit errors, duplicates, corruption, reordering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from epaird.dataplane.impair.fates import Fate, Hit
from epaird.dataplane.impair.hits import CHAIN_WORDS, HITS_WORDS, ChainHits, Hits
from epaird.dataplane.impair.streams import Stream, StreamNumber
from epaird.ipc.impairment import LineParameters

PROCESSES_WORDS: Final = CHAIN_WORDS + 4 * HITS_WORDS
"""Words of the state of :class:`Processes`."""
UNCHECKED_BITS: Final = 160
"""Bits of a frame on the wire that its check sequence does not protect: preamble and gap."""


class Processes:
    """The processes of one set of parameters. Each has a stream of its own."""

    __slots__ = ("_ber", "_fates", "_loss", "_loss_fate", "next", "next_bit")

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
        offset = CHAIN_WORDS
        found = []
        for number, probability, start in (
            (StreamNumber.BER, parameters.ber, bit),
            (StreamNumber.DUPLICATE, parameters.duplicate, segment),
            (StreamNumber.CORRUPT, parameters.corrupt, segment),
            (StreamNumber.REORDER, parameters.reorder, segment),
        ):
            saved = words[offset : offset + HITS_WORDS]
            found.append(Hits(Stream(seed, number), probability, start, saved))
            offset += HITS_WORDS
        self._ber = found[0]
        self._fates = tuple(zip(found[1:], (Fate.DUPLICATE, Fate.CORRUPT, Fate.REORDER), strict=True))
        self._look()

    def hits(self, first: int, bit: int, sizes: Sequence[int]) -> list[Hit]:
        """Return the fates of the next segments, the first of which has the number ``first`` and begins with
        ``bit``, in order. A segment that is dropped has no other fate."""
        stop = first + len(sizes)
        dropped = self._bit_errors(bit, sizes)
        for place in self._loss.take(stop):
            dropped[place - first] = self._loss_fate
        found = [Hit(segment, fate) for segment, fate in dropped.items()]
        for process, fate in self._fates:
            if process.next < stop:
                segments = (place - first for place in process.take(stop))
                found += [Hit(segment, fate) for segment in segments if segment not in dropped]
        found.sort()
        self._look()
        return found

    def words(self) -> tuple[int, ...]:
        """Return the state."""
        others = (process.words() for process, _ in self._fates)
        return (*self._loss.words(), *self._ber.words(), *(word for words in others for word in words))

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
        self.next = min(self._loss.next, *(process.next for process, _ in self._fates))
        """The next segment that something may happen to."""
        self.next_bit = self._ber.next
        """The next bit that is wrong."""
