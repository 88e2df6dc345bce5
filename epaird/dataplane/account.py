"""The account of a port: the only place that counts frames.

A worker can be killed between any two stores to the ledger. :func:`epaird.ipc.settlement.settle` then
accounts for every frame, and relies on the order of the stores:

1. IN_FLIGHT is set before the first frame of a burst is written, and JOINING before each super-frame.
2. Frames are counted after they were written: as transmitted by the sender, then as received. The packets
   of a loopback are counted as transmitted before that.
3. JOINING is cleared after that, and then the joined datagrams are counted.
4. The segments that a super-frame adds are counted once its first one is written, before the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from epaird.dataplane.frames import HEADER
from epaird.ipc.counters import (
    ADDED_SEGMENTS,
    COALESCED_DATAGRAMS,
    COALESCED_SUPERFRAMES,
    HELD_BYTES,
    IBYTES,
    IERRORS,
    IMCASTS,
    IN_FLIGHT,
    IPACKETS,
    JOINING,
    LISTED,
    OACTIVE,
    OBYTES,
    OERRORS,
    OMCASTS,
    OPACKETS,
    SLOT_WORDS,
    TOO_BIG,
)
from epaird.ipc.ledger import Words

COUNT_MAX: Final = 1 << 62
"""More than is ever counted: at 100 Gbit/s, the bytes of eleven years."""


class Account:
    """The counters of one port, in its slot of the ledger."""

    __slots__ = ("words",)

    def __init__(self, words: Words) -> None:
        """Become the only writer of a slot: counts of earlier writers stay, their state is cleared.

        Any worker can have written any number there. A count so high that it would soon be none for a word,
        which would end this worker, is lowered."""
        self.words = words
        for word in range(SLOT_WORDS):
            if words[word] > COUNT_MAX:
                words[word] = COUNT_MAX
        words[IN_FLIGHT] = words[LISTED] = words[OACTIVE] = words[HELD_BYTES] = 0

    # Frames that the port's owner transmitted.

    def transmitted(self, frames: Sequence[bytes | memoryview], multicasts: int) -> None:
        """Count frames as transmitted; ``multicasts`` of them are for a group."""
        words = self.words
        words[OPACKETS] += len(frames)
        words[OBYTES] += sum(map(len, frames)) - HEADER * len(frames)
        if multicasts:
            words[OMCASTS] += multicasts

    def refused(self, reasons: Iterable[int]) -> None:
        """Count frames that could not be transmitted, each for a reason."""
        for reason in reasons:
            self.words[OERRORS + reason] += 1

    def undeliverable(self, reason: int, frames: int) -> None:
        """Count frames that could not be transmitted, all for the same reason."""
        self.words[OERRORS + reason] += frames

    def answered(self) -> None:
        """Count a message to the port's owner about a frame that was too long."""
        self.words[TOO_BIG] += 1

    def mark_listed(self, listed: bool) -> None:
        """Record whether the port is on the drain list."""
        self.words[LISTED] = listed

    def mark_oactive(self, oactive: bool) -> None:
        """Record whether the port's output is blocked."""
        self.words[OACTIVE] = oactive

    # Frames for the port's owner.

    def received(self, frames: Sequence[bytes | memoryview], multicasts: int) -> None:
        """Count frames as delivered; ``multicasts`` of them are for a group."""
        words = self.words
        words[IPACKETS] += len(frames)
        words[IBYTES] += sum(map(len, frames)) - HEADER * len(frames)
        if multicasts:
            words[IMCASTS] += multicasts

    def lost(self, reason: int, frames: int = 1) -> None:
        """Count frames that were transmitted and could not be delivered here."""
        self.words[IERRORS + reason] += frames

    def segmented(self, added: int) -> None:
        """Count a super-frame that is delivered as ``added`` more frames."""
        self.words[ADDED_SEGMENTS] += added

    def in_flight(self, frames: int) -> None:
        """Record how many frames are in flight to this port: being written, or in the queue."""
        self.words[IN_FLIGHT] = frames

    def held(self, octets: int, frames: int) -> None:
        """Record that the queue holds ``octets`` more bytes for this port, and ``frames`` frames in all."""
        words = self.words
        words[HELD_BYTES] += octets
        words[IN_FLIGHT] = frames

    def joining(self, writes: int, frames: int, datagrams: int) -> None:
        """Record the super-frame to be written next, after ``writes`` that delivered ``frames``.

        ``datagrams`` is how many it has, or 1 once the kernel has refused it."""
        self.words[JOINING] = writes << 32 | frames << 16 | datagrams

    def joined(self, superframes: int, datagrams: int) -> None:
        """Count the super-frames of a burst that is delivered, and the datagrams in them."""
        words = self.words
        words[JOINING] = 0
        words[COALESCED_SUPERFRAMES] += superframes
        words[COALESCED_DATAGRAMS] += datagrams


def crossed(source: Account, target: Account, frames: int, octets: int, multicasts: int) -> None:
    """Count a whole burst as transmitted by ``source`` and delivered to ``target``.

    One call instead of one for each port, because it is made for every burst."""
    sender, receiver = source.words, target.words
    receiver[IN_FLIGHT] = 0
    sender[OPACKETS] += frames
    sender[OBYTES] += octets
    if multicasts:
        sender[OMCASTS] += multicasts
    receiver[IPACKETS] += frames
    receiver[IBYTES] += octets
    if multicasts:
        receiver[IMCASTS] += multicasts
