"""The end of a line: frames that are due are written to the receiver from the ring.

The kernel counts what is written, so nothing is stored between two writes (:mod:`epaird.ipc.ring`). One
commit counts them all at the end."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Mapping
from typing import Final

from epaird.dataplane.frames import FRAME_MAX, HEADER, SHORTEST
from epaird.dataplane.port import DOWN_ERRORS, Port, reason
from epaird.dataplane.segmenting import segment
from epaird.dataplane.superframe import NotSegmentable
from epaird.ipc.counters import LATE_BOUNDS_NS
from epaird.ipc.ledger import WORD_MAX, Words
from epaird.ipc.ring import Ring
from epaird.ipc.ringchanges import unjoin
from epaird.ipc.ringfile import JOINED, LATE, LATE_SUM, RECORD, Released

RECORDS_AT_ONCE: Final = 256
"""Most frames that are released before other ports get a turn."""
_TABLE_STEP: Final = RECORD.size


class Release:
    """Writes what is due."""

    __slots__ = ("_receiver", "_ring", "_targets")

    def __init__(self, ring: Ring, receiver: Words, targets: Mapping[int, Port]) -> None:
        """``targets`` are the queues of the receiver by their slots, all of whose deliveries are counted in
        the slot ``receiver``."""
        self._ring = ring
        self._receiver = receiver
        self._targets = targets

    def run(self, now_ns: int, until_ns: int) -> Port | None:
        """Write records that are due until a time, a limited number; return the queue that takes no more, if
        there is one.

        There must be a queue."""
        ring = self._ring
        left = RECORDS_AT_ONCE
        while left > 0 and ring.tail < ring.head:
            written, error, target = self._write(now_ns, until_ns, left)
            left -= written + 1
            if error is None:
                if written and not ring.tail % ring.records:
                    continue  # at the end of the table
                break
            if isinstance(error, BlockingIOError):
                return target
            if error.errno in DOWN_ERRORS or not self._unjoin():
                ring.refused(reason(error), self._receiver)
        return None

    def _unjoin(self) -> bool:
        """Have the datagrams of the oldest record released singly; False where it joins none.

        The kernel refuses a super-frame as a whole that its receiver could take as datagrams."""
        ring = self._ring
        _, offset, length, _, count, flags, *_ = ring.record(ring.tail)
        if not flags & JOINED or not SHORTEST <= length <= FRAME_MAX:
            return False
        try:
            frames = segment(ring.data[offset : offset + length])
        except NotSegmentable:
            return False
        return len(frames) == count and unjoin(ring, frames, HEADER)

    def _write(self, now_ns: int, until_ns: int, most: int) -> tuple[int, OSError | None, Port | None]:
        """Write records until one is not due or is refused, or the table ends; return how many were written,
        the error, and the queue of the last one."""
        ring, targets, write, data = self._ring, self._targets, os.write, self._ring.data
        first = ring.tail
        place = first % ring.records
        last = place + min(ring.head - first, most, ring.records - place)
        target, fd, queue, late_of = None, -1, -1, -1
        gone = Released()
        error: OSError | None = None
        records = frames = segments = octets = late_frames = 0
        for (
            deadline, offset, length, each_segments, each_frames, flags, _, each_octets, _, slot
        ) in RECORD.iter_unpack(ring.table[place * _TABLE_STEP : last * _TABLE_STEP]):  # fmt: skip
            if deadline > until_ns:
                break
            if slot != queue:
                queue, target = slot, targets.get(slot) or next(iter(targets.values()))
                if target.backlog:
                    error = BlockingIOError()
                    break
                fd = target.fd
            try:
                write(fd, data[offset : offset + length])
            except OSError as refusal:
                error = refusal
                break
            records += 1
            frames += each_frames
            segments += each_segments
            octets += each_octets
            if flags:
                gone.flagged(flags, each_frames)
            if deadline != late_of:
                if late_frames:
                    self._late(now_ns - late_of, late_frames)
                late_of, late_frames = deadline, 0
            late_frames += each_frames
        if records:
            self._late(now_ns - late_of, late_frames)
            gone.records, gone.frames, gone.segments, gone.octets = records, frames, segments, octets
            ring.released(gone, self._receiver)
        return records, error, target

    def _late(self, late_ns: int, frames: int) -> None:
        """Count frames by how late they are delivered; those that are early are not late."""
        if late_ns < 0:
            late_ns = 0
        release = self._ring.release
        # After days of overload it begins again from 0, and does not end the worker and its successors.
        release[LATE_SUM] = release[LATE_SUM] + late_ns * frames & WORD_MAX
        bucket = LATE + bisect_left(LATE_BOUNDS_NS, late_ns)
        release[bucket] = release[bucket] + frames & WORD_MAX
