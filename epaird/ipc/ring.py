"""The ring: the frames that a line holds, in a memory file that outlives every process.

A worker reads frames into the ring and writes them from it, and may be killed at any instruction. Its
successor maps the same file and loses no frame, doubles none, and continues with the same decisions.

Theory:

1. The file has a header, the state, a log of decisions, a table of records, and the data. A record describes
   one write() to the receiver. Records are numbered; record n is at n % capacity.
2. Each side of the ring has a state of its own, in two copies and an index that tells which copy is valid. A
   commit fills the other copy and stores the index: one aligned 64-bit store, before which nothing has
   happened and after which everything has.
3. Intake: data and records are written beyond the head, then one commit publishes them together with the
   state of the decisions and the line's counters. Frames that were read and not committed are lost with the
   process (``worker_lost``); the kernel's tx_packets of the sender shows how many they were.
4. Release needs no commit for each frame: the kernel counts what was written (rx_packets of the receiver).
   One word holds the difference between that count and the number of records that are gone. So a successor
   finds the first record that was not delivered, although nothing was stored after the last write().
5. What is written to the receiver and is no record would break this. So it is announced before (``begin``)
   and the difference is computed again after it (``rest``). In between, no record is released. While the
   line is ``suspended``, anything may be written to the receiver at any time, and no record is released.
6. A commit of the release has the values that the receiver's counters are to have, not increments. They are
   stored in the ledger after the commit, and again by a successor: a counter never goes back, so the larger
   value is the right one however often that is done.
7. A super-frame of the worker's making that the receiver refuses is replaced by its datagrams: by records
   before it, and one in its place. The commit has that one too, so that a successor can store it again.
8. Memory is used again from the beginning of the data as soon as as much is free there as is held, so that a
   short delay uses little memory, which stays in the cache. The file is sparse.

What must never happen: that data or a record is overwritten before the release state that frees it is
committed, or that the index is stored before the copy is complete.

A worker is not trusted, and may write anything to a ring: see :mod:`epaird.ipc.ringsoundness`.

This module is imported by worker processes: it uses the standard library only.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from array import array
from collections.abc import Iterable
from operator import add
from typing import Final, Literal

from epaird.ipc import linecounters
from epaird.ipc.counters import (
    ADDED_SEGMENTS,
    COALESCED_DATAGRAMS,
    COALESCED_SUPERFRAMES,
    IBYTES,
    IERRORS,
    IMCASTS,
    IPACKETS,
    WRITE_ERROR,
)
from epaird.ipc.ledger import WORD_MAX, Words
from epaird.ipc.ringfile import (
    ADDED,
    BIAS,
    COUNTED,
    DATA,
    DECIDED,
    DECISIONS,
    DECISIONS_MAX,
    DECISIONS_TIMES,
    DELIVERED,
    DIFFERENCE,
    FRAMES,
    HEAD,
    HELD,
    INTAKE,
    INTAKE_INDEX,
    INTAKE_WORDS,
    KEEP,
    LAST,
    LOG,
    LOG_ENTRIES,
    LOGGED,
    OTHER_WRITES,
    OUT,
    PAGE,
    RECEIVER,
    RECORD,
    REFUSED,
    RELEASE,
    RELEASE_INDEX,
    RELEASE_WORDS,
    REPLACED,
    STATE,
    STATE_MAX,
    TABLE,
    TAIL,
    UNCOMMITTED_MAX,
    Held,
    Released,
    copies,
    is_sound,
    sizes,
)
from epaird.ipc.ringfile import create as create
from epaird.ipc.settlement import writes

_pack_record: Final = RECORD.pack_into
_pack_three: Final = struct.Struct("=3Q").pack_into
_unpack_three: Final = struct.Struct("=3Q").unpack_from
_pack_gone: Final = struct.Struct("=5Q").pack_into
_unpack_gone: Final = struct.Struct("=5Q").unpack_from
_RECORD: Final = RECORD.size
_HELD: Final = FRAMES * 8
_PASSED: Final = (DECISIONS + 1) * 8


class Ring:
    """A ring, mapped. It has one writer at any time: the worker that has its line, or the control plane
    while no worker has it."""

    def __init__(self, fd: int) -> None:
        """Map the ring; its descriptor stays the caller's. Raises ValueError where no line leaves it so."""
        self.fd = fd
        records, octets = sizes(fd)
        self._map = mmap.mmap(fd, os.lseek(fd, 0, os.SEEK_END))
        whole = memoryview(self._map)
        self._views = [whole]
        self.records = records
        """Records that the table has."""
        self.size = octets
        """Bytes of the data area."""
        self._table_words = self._part(whole, TABLE * PAGE, records * RECORD.size, "Q")
        self.table = self._part(whole, TABLE * PAGE, records * RECORD.size)
        """The records."""
        self.data = self._part(whole, TABLE * PAGE + records * RECORD.size, octets)
        """The data."""
        self.log = self._part(whole, LOG * PAGE, LOG_ENTRIES * 16, "Q")
        """The log of decisions."""
        self.state = self._part(whole, STATE * PAGE, PAGE, "Q")
        """The indices of the valid copies, and the difference."""
        self._intakes, self._releases = copies(INTAKE, INTAKE_WORDS), copies(RELEASE, RELEASE_WORDS)
        self.intake = array("Q", self._map[self._intakes[self.state[INTAKE_INDEX] & 1]])
        """The state of the intake; what is changed here takes effect with :meth:`commit_intake`."""
        self.release = array("Q", self._map[self._releases[self.state[RELEASE_INDEX] & 1]])
        """The state of the release; likewise."""
        self.head = self.intake[HEAD]
        """Number of the next record."""
        self.tail = self.release[TAIL]
        """Number of the oldest record that is not known as gone."""
        self.write = self.intake[DATA]
        """Offset of the next data."""
        self.last = self.intake[LAST]
        """Deadline of the last record."""
        self.queue = 0
        """Slot of the ledger of the receiver's queue that the next records are for."""
        self.suspended = False
        """True while no record is released; takes effect with :meth:`rest`."""
        if not is_sound(self.intake, self.release, records, octets):
            self.close()
            raise ValueError("the state of a ring contradicts itself")

    def _part(self, whole: memoryview, start: int, octets: int, form: Literal["B", "Q"] = "B") -> memoryview:
        view: memoryview = whole[start : start + octets].cast(form)
        self._views.append(view)
        return view

    def close(self) -> None:
        """Unmap the ring."""
        for view in self._views:
            view.release()
        self._views = []
        self._map.close()

    # Intake.

    def place(self, octets: int) -> int:
        """Return the offset of so many contiguous free bytes, or -1 while there are none."""
        if self.head == self.tail:
            return 0 if octets <= self.size else -1
        oldest = min(self.size, self._table_words[self.tail % self.records * (RECORD.size // 8) + KEEP])
        write = self.write
        if write < oldest:
            return write if oldest - write > octets else -1
        if oldest > octets and oldest > write - oldest:
            return 0
        if self.size - write >= octets:
            return write
        return 0 if oldest > octets else -1

    def put(
        self, deadline: int, offset: int, length: int, segments: int, frames: int, flags: int, arrival: int,
        octets: int, keep: int,
    ) -> None:  # fmt: skip
        """Add a record; it takes effect with :meth:`commit_intake`. There must be room for it.

        The arguments are the fields of RECORD. ``keep`` never goes back but to the beginning of the data."""
        head = self.head
        _pack_record(
            self.table, (head & self.records - 1) * _RECORD,
            deadline, offset, length, segments, frames, flags, arrival, octets, keep, self.queue,
        )  # fmt: skip
        self.head = head + 1
        self.last = deadline
        self._add(frames, segments, octets)

    def put_all(
        self, deadline: int, frames: Iterable[tuple[int, int, int, int]], arrival: int, header: int
    ) -> None:
        """Add a record for each of these frames: offset, length, segments, flags. They start with ``header``
        bytes that do not count. Otherwise as :meth:`put`, and faster."""
        table, mask, queue = self.table, self.records - 1, self.queue
        first = number = self.head
        segments = octets = 0
        for offset, length, each, flags in frames:
            _pack_record(
                table, (number & mask) * _RECORD,
                deadline, offset, length, each, 1, flags, arrival, length - header, offset, queue,
            )  # fmt: skip
            number += 1
            segments += each
            octets += length
        self.head, self.last = number, deadline
        self._add(number - first, segments, octets - header * (number - first))

    def _add(self, frames: int, segments: int, octets: int) -> None:
        """Add to what was ever held."""
        ever_frames, ever_segments, ever_octets = _unpack_three(self.intake, _HELD)
        _pack_three(self.intake, _HELD, ever_frames + frames, ever_segments + segments, ever_octets + octets)

    def note(self, segment: int, decision: int) -> None:
        """Add a decision to the log; it takes effect with :meth:`commit_intake`."""
        number = self.intake[LOGGED]
        place = number % LOG_ENTRIES * 2
        self.log[place], self.log[place + 1] = segment, decision
        self.intake[LOGGED] = number + 1

    def decide(self, state: tuple[int, ...]) -> None:
        """Replace the state of the decisions; it takes effect with :meth:`commit_intake`."""
        intake = self.intake
        try:
            words = array("Q", state)
        except OverflowError:  # a worker had left numbers that are far beyond any time or segment
            words = array("Q", (max(0, min(word, WORD_MAX)) for word in state))
        intake[DECIDED] = len(words)
        intake[DECISIONS : DECISIONS + len(words)] = words

    def passed(self, segment: int, bits: int) -> None:
        """Replace the numbers of the next segment and bit, and the last deadline, in the decisions' state."""
        _pack_three(self.intake, _PASSED, segment, bits, self.last)

    def decided(self) -> tuple[int, ...]:
        """Return the state of the decisions, empty before the first one."""
        count = min(self.intake[DECIDED], DECISIONS_MAX)
        return tuple(self.intake[DECISIONS : DECISIONS + count])

    def commit_intake(self) -> None:
        """Publish what was added."""
        intake = self.intake
        _pack_three(intake, 0, self.head, self.write, self.last)
        other = 1 - (self.state[INTAKE_INDEX] & 1)
        self._map[self._intakes[other]] = intake
        self.state[INTAKE_INDEX] = other

    # Release.

    def record(self, number: int) -> tuple[int, ...]:
        """Return a record: the fields of RECORD."""
        return RECORD.unpack_from(self.table, number % self.records * RECORD.size)

    def released(self, gone: Released, receiver: Words) -> None:
        """Commit that the oldest records were delivered, and count them in the receiver's slot."""
        release = self.release
        gone.bound(self.intake, release)
        tail, frames, segments, octets, delivered = _unpack_gone(release)
        _pack_gone(
            release, 0, tail + gone.records, frames + gone.frames, segments + gone.segments,
            octets + gone.octets, delivered + gone.segments,
        )  # fmt: skip
        release[COUNTED] = packets = receiver[IPACKETS] + gone.frames
        release[COUNTED + 1] = octets = receiver[IBYTES] + gone.octets
        if gone.multicasts or gone.superframes:
            release[COUNTED + 2] = receiver[IMCASTS] + gone.multicasts
            release[COUNTED + 3] = receiver[COALESCED_SUPERFRAMES] + gone.superframes
            release[COUNTED + 4] = receiver[COALESCED_DATAGRAMS] + gone.datagrams
        self.commit_release()
        receiver[IPACKETS] = packets
        receiver[IBYTES] = octets
        if gone.multicasts or gone.superframes:
            receiver[IMCASTS] = release[COUNTED + 2]
            receiver[COALESCED_SUPERFRAMES] = release[COUNTED + 3]
            receiver[COALESCED_DATAGRAMS] = release[COUNTED + 4]

    def refused(self, reason: int, receiver: Words) -> None:
        """Commit that the oldest record was dropped, and count it as ``ierrors`` of the receiver."""
        release, gone = self.release, Released()
        gone.add(self.record(self.tail))
        gone.bound(self.intake, release)
        release[TAIL] += 1
        for number, left in zip(HELD, (gone.frames, gone.segments, gone.octets), strict=True):
            release[OUT + number] += left
        release[REFUSED] += gone.segments
        refused, count = IERRORS + reason, gone.frames
        self._count([receiver[word] + count * (word == refused) for word in RECEIVER], receiver)
        self.state[DIFFERENCE] = self.state[DIFFERENCE] - 1 & WORD_MAX  # last: settle() uses the later tail

    def replace(self, number: int, record: bytes) -> None:
        """Store a record again, with other fields."""
        start = number % self.records * RECORD.size
        self.table[start : start + RECORD.size] = record

    def complete(self) -> None:
        """Store the last record that was replaced again: its writer may have been killed before it had."""
        fields = self.release[REPLACED : REPLACED + 1 + RECORD.size // 8]
        if fields[0] > self.tail:
            self.replace(fields[0] - 1, fields[1:].tobytes())

    def begin(self) -> None:
        """Announce writes to the receiver that are no records. All that was released is committed."""
        self.state[DIFFERENCE] |= OTHER_WRITES

    def rest(self, receiver: Words) -> None:
        """Record that what was written to the receiver until now is counted in its slot."""
        difference = (writes(receiver) - self.tail + BIAS) & WORD_MAX
        self.state[DIFFERENCE] = difference | OTHER_WRITES if self.suspended else difference

    def commit_release(self) -> None:
        """Publish what was changed in the state of the release."""
        release = self.release
        other = 1 - (self.state[RELEASE_INDEX] & 1)
        self._map[self._releases[other]] = release
        self.state[RELEASE_INDEX] = other
        self.tail = release[TAIL]

    # Both, and the control plane.

    def held(self) -> Held:
        """Return what the ring holds."""
        intake, release = self.intake, self.release
        return Held(*(max(0, intake[FRAMES + number] - release[OUT + number]) for number in HELD))

    def settle(self, written: int | None, receiver: Words) -> Released:
        """Count what a worker that has died had released, in the receiver's slot; return what was missing.

        ``written`` is the kernel's rx_packets of the receiver; None counts nothing that is not committed, for
        a successor that goes on. Otherwise nothing is released before there is one. To be called before
        :func:`epaird.ipc.settlement.settle`, which may count more writes. It may be repeated."""
        self.complete()
        release = self.release
        counts = [max(receiver[word], release[COUNTED + number]) for number, word in enumerate(RECEIVER)]
        receiver[ADDED_SEGMENTS] = max(receiver[ADDED_SEGMENTS], self.intake[ADDED])
        gone = Released()
        difference = self.state[DIFFERENCE]
        if written is not None and not difference & OTHER_WRITES:
            first = min(written - (difference - BIAS), self.head, self.tail + UNCOMMITTED_MAX)
            for number in range(self.tail, first):
                gone.add(self.record(number))
        gone.bound(self.intake, release)
        release[TAIL] += gone.records
        release[DELIVERED] += gone.segments
        for number, left in zip(HELD, (gone.frames, gone.segments, gone.octets), strict=True):
            release[OUT + number] += left
        added = gone.frames, gone.octets, gone.multicasts, gone.superframes, gone.datagrams, 0, 0
        self._count(map(add, counts, added), receiver)
        if written is None:
            self.rest(receiver)
        else:
            self.begin()
        return gone

    def discard(self, receiver: Words) -> Held:
        """Drop what the ring holds and count it as ``ierrors`` of the receiver, ``write_error``."""
        held, refused, intake = self.held(), IERRORS + WRITE_ERROR, self.intake
        self.release[TAIL] = self.head
        self.release[REFUSED] += held.segments
        self.release[OUT : OUT + 3] = intake[FRAMES : FRAMES + 3]
        self._count([receiver[word] + held.frames * (word == refused) for word in RECEIVER], receiver)
        # Nothing is in front of the next frame.
        intake[DECISIONS_TIMES] = array("Q", bytes(8 * len(intake[DECISIONS_TIMES])))
        self.last = 0
        self.commit_intake()
        self.rest(receiver)
        return held

    def _count(self, counts: Iterable[int], receiver: Words) -> None:
        """Commit that the receiver's counters are to have these values, and store them."""
        values = array("Q", [min(count, STATE_MAX) for count in counts])
        self.release[COUNTED : COUNTED + len(values)] = values
        self.commit_release()
        for word, value in zip(RECEIVER, values, strict=True):
            receiver[word] = value

    def mirror(self, words: Words) -> None:
        """Copy the line's counters to its slot."""
        linecounters.mirror(self.intake, self.release, words)

    def forget(self, start: int, octets: int) -> None:
        """Return the memory of so many bytes of the file to the system, which then are 0."""
        with contextlib.suppress(OSError):
            self._map.madvise(mmap.MADV_REMOVE, start, octets)
