"""The counters, in memory that every process of the daemon shares.

One memory file holds a table of slots, each ``SLOT_WORDS`` unsigned 64-bit words.  The control
plane hands slots out; a slot has exactly one writer at any time, the worker that owns the
interface queue (or is the worker) it describes, and any number of readers.  An aligned 64-bit
store is one instruction on the machines Linux runs on, so a reader never sees half a number and
nobody needs a lock.  A slot outlives its writer: when a worker dies its successor goes on
counting where it stopped, and counters never go back.

Counters keep BSD's names and viewpoint, the interface owner's: ``o`` is what the owner sends
(we read it), ``i`` what reaches the owner (we wrote it).  Every frame has one fate, at rest:

    kernel tx_packets(a) = opackets(a) + oerrors(a, every reason)
    opackets(a) = ipackets(b) + queued and in flight to b + ierrors(b, every reason)

This module is part of the data plane's world too: it imports the standard library only.
"""

from __future__ import annotations

import heapq
import mmap
import os
from collections.abc import Collection
from typing import Final

REASONS: Final = ("peer_down", "oversize", "runt", "write_error", "worker_lost", "family")
"""Why a frame was an error; the words of one direction stand in this order.  Only a loopback asks for
the family: it takes IPv4 and IPv6."""

SLOT_WORDS: Final = 32
SLOT_BYTES: Final = SLOT_WORDS * 8

# Words of an interface's slot (with several queues: of one queue of the interface).
OPACKETS: Final = 0
OBYTES: Final = 1
OMCASTS: Final = 2
IPACKETS: Final = 3
IBYTES: Final = 4
IMCASTS: Final = 5
IN_FLIGHT: Final = 6
"""Frames read from the peer and not yet delivered here: being written, or in the queue."""
LISTED: Final = 7
"""1 while the interface is on its worker's drain list."""
OACTIVE: Final = 8
"""1 while the interface's output is blocked."""
COALESCED_DATAGRAMS: Final = 9
"""Frames delivered here as part of a super-frame of our making."""
COALESCED_SUPERFRAMES: Final = 10
"""Super-frames of our making delivered here."""
JOINING: Final = 11
"""While a burst with such super-frames is written: before the current one, how many writes (bits 32 on)
and frames (16 on) were done, and how many frames are in it: 1 once it was refused.  0 otherwise."""
OERRORS: Final = 12
IERRORS: Final = OERRORS + len(REASONS)
HELD_BYTES: Final = IERRORS + len(REASONS)
"""Memory of the frames that wait to be delivered here (NetBSD's mowner)."""
TOO_BIG: Final = HELD_BYTES + 1
"""Answers of our own delivered here, to frames that were too long for the peer; no frame of anybody's."""

PEER_DOWN: Final = REASONS.index("peer_down")
OVERSIZE: Final = REASONS.index("oversize")
RUNT: Final = REASONS.index("runt")
WRITE_ERROR: Final = REASONS.index("write_error")
WORKER_LOST: Final = REASONS.index("worker_lost")
FAMILY: Final = REASONS.index("family")

# Words of a worker's slot.
HEARTBEAT_NS: Final = 0
"""CLOCK_MONOTONIC, in nanoseconds, when the worker's own loop last turned or forwarded something."""
CPU_NS: Final = 1
"""User and system time of this and every earlier process of the worker, in nanoseconds."""
QUEUE_FRAMES: Final = 2
DRAIN_LIST: Final = 3
"""Interfaces on the drain list."""
WORKER_OACTIVE: Final = 4

Words = memoryview
"""A slot: ``SLOT_WORDS`` unsigned 64-bit integers, read and stored by index."""


class Table:
    """The shared table.  The control plane makes it; a worker maps it by its file descriptor."""

    def __init__(self, fd: int) -> None:
        """Map the table behind ``fd``, which stays the caller's to close."""
        self.fd = fd
        self._map = mmap.mmap(fd, os.fstat(fd).st_size)
        self._words = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls, slots: int) -> Table:
        """A new table of ``slots`` zeroed slots; memory is used only for those written to."""
        fd = os.memfd_create("epaird-ledger", os.MFD_CLOEXEC)
        os.ftruncate(fd, slots * SLOT_BYTES)
        return cls(fd)

    @property
    def slots(self) -> int:
        """How many slots the table has."""
        return len(self._words) // SLOT_WORDS

    def slot(self, index: int) -> Words:
        """The words of one slot, live; raises IndexError when there is no such slot."""
        if not 0 <= index < self.slots:
            raise IndexError(f"slot {index} of {self.slots}")
        return self._words[index * SLOT_WORDS : (index + 1) * SLOT_WORDS]

    def clear(self, index: int) -> None:
        """Zero a slot before it is handed to its next owner."""
        self.slot(index)[:] = memoryview(bytes(SLOT_BYTES)).cast("Q")


class Slots:
    """Which slots of a table are free; the lowest is handed out first, zeroed."""

    def __init__(self, table: Table, taken: Collection[int] = (), *, resting: bool = False) -> None:
        """``taken`` are those that somebody has already; ``resting``: what is released is nobody's until
        :meth:`rested`."""
        self._table = table
        self._resting: list[int] | None = [] if resting else None
        self._free = [slot for slot in range(table.slots) if slot not in taken]

    def take(self) -> int:
        """A free slot; raises IndexError when there is none."""
        slot = heapq.heappop(self._free)
        self._table.clear(slot)
        return slot

    def release(self, slot: int) -> None:
        """Nobody writes to the slot any more."""
        if self._resting is None:
            heapq.heappush(self._free, slot)
        else:
            self._resting.append(slot)

    def rested(self) -> None:
        """Nobody speaks any more of the slots that were released before."""
        for slot in self._resting or ():
            heapq.heappush(self._free, slot)
        if self._resting:
            self._resting.clear()


def balance(sender: Words, receiver: Words) -> int:
    """Frames the sender has sent less those of the receiver that have met a fate: 0 at rest, as long as
    neither was ever plugged into another."""
    return sender[OPACKETS] - receiver[IPACKETS] - _errors(receiver, IERRORS)


def settle(sender: Words, receiver: Words, *, read: int | None, written: int | None, base: int = 0) -> int:
    """Account for the frames a worker had in hand when it died, in one direction of a cable.

    ``read`` is what the kernel counted as taken from the sender's device (tx_packets), ``written`` what
    it counted as delivered to the receiver's (rx_packets); nobody reads or writes meanwhile.  Where they
    are not known (None), what the worker had counted stands.  ``base`` is their balance when they were
    plugged together.  What was read and did not arrive is ``worker_lost``; returns how many frames that
    was."""
    if written is not None:
        _settle_delivered(receiver, written)
    if read is not None:
        sender[OPACKETS] = max(sender[OPACKETS], read - _errors(sender, OERRORS))
    lost = max(0, balance(sender, receiver) - base)
    receiver[IERRORS + WORKER_LOST] += lost
    _nothing_held(sender, receiver)
    return lost


def settle_unplugged(sender: Words, *, read: int) -> int:
    """The same for an interface without a peer, whose frames are errors of its own."""
    lost = max(0, read - sender[OPACKETS] - _errors(sender, OERRORS))
    sender[OERRORS + WORKER_LOST] += lost
    _nothing_held(sender, sender)
    return lost


def _errors(words: Words, first: int) -> int:
    return sum(words[first : first + len(REASONS)])


def _nothing_held(sender: Words, receiver: Words) -> None:
    receiver[IN_FLIGHT] = receiver[JOINING] = receiver[HELD_BYTES] = 0
    sender[LISTED] = sender[OACTIVE] = 0


def _settle_delivered(receiver: Words, written: int) -> None:
    """Count what was delivered of the last burst and not counted any more: a write is a frame, or a
    super-frame of our making."""
    known = receiver[IPACKETS] - receiver[COALESCED_DATAGRAMS] + receiver[COALESCED_SUPERFRAMES]
    writes = written - known - receiver[TOO_BIG]
    if writes <= 0:
        # The frames were counted, and that they were joined was not.
        receiver[COALESCED_DATAGRAMS] -= writes
        return
    joining = receiver[JOINING]
    before, arrived, joined = joining >> 32, joining >> 16 & 0xFFFF, joining & 0xFFFF
    frames = writes
    if joined:
        frames = arrived if writes <= before else arrived + joined + writes - before - 1
    receiver[IPACKETS] += frames
    if frames > writes:
        receiver[COALESCED_SUPERFRAMES] += 1
        receiver[COALESCED_DATAGRAMS] += frames - writes + 1
