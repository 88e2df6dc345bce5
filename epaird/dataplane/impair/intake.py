"""The beginning of a line: frames are read from the sender and put into the ring, each with its deadline.

Two ways of reading, because a copy of 64 KB costs more than all the rest, and small datagrams have to be
joined before they are held:

- Many small frames are read into the worker's burst, what is hit is taken out of it, the rest is joined as
  ever, and what is to be written later is copied to the ring.
- After a long frame, or a burst of a few, frames are read straight into the ring, and cut there
  (:mod:`epaird.dataplane.impair.direct`).

All of a burst is one commit of the ring. Only then is it counted as transmitted: a process that is killed
before that has lost what it had read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from epaird.dataplane.frames import HEADER
from epaird.dataplane.impair.corruption import corrupt
from epaird.dataplane.impair.decisions import Decisions
from epaird.dataplane.impair.division import DROP_WORDS, Division, Part, change_of
from epaird.dataplane.impair.fates import DROPS, Fate, Hit
from epaird.dataplane.impair.marking import ecn_capable, mark, mark_in_place
from epaird.dataplane.impair.pieces import extract, pieces, shape, total_wire_octets, wire_octets
from epaird.dataplane.impair.wire import ON_WIRE, PADDED
from epaird.dataplane.port import Port
from epaird.dataplane.segmenting import segment
from epaird.dataplane.superframe import NotSegmentable, Shape
from epaird.ipc.counters import (
    CORRUPTED,
    CUT,
    DUPLICATED,
    ESEGMENTS,
    MARKED,
    OSEGMENTS,
    REORDERED,
    WRITE_ERROR,
)
from epaird.ipc.impairment import LineSpec
from epaird.ipc.ledger import Words
from epaird.ipc.ring import Ring
from epaird.ipc.ringfile import ADDED, COUNTERS, MULTICAST

ROOM: Final = 4 << 20
"""Contiguous bytes of the ring without which nothing is read: a burst, and the copies and headers of its
pieces."""
RECORDS_ROOM: Final = 1 << 14
"""Records without which nothing is read."""
_PART_HEADERS: Final = 256
"""Bytes that the headers of a part take at most."""


class Intake:
    """Fills the ring of one line."""

    source: Port
    """The port that the frames are read from; set by :meth:`use`."""
    target: Port
    """Its receiver."""

    def __init__(self, ring: Ring, receiver: Words, spec: LineSpec, decisions: Decisions) -> None:
        """``receiver`` is the slot that deliveries are counted in."""
        self._ring = ring
        self._receiver = receiver
        self.counters = memoryview(ring.intake)[COUNTERS:]
        """The line's counters, which the next commit publishes."""
        self.changed = True
        """True where more was decided since the last commit than how many segments pass."""
        self._end = 0
        """Offset of the end of what is free for this burst."""
        self.change(spec, decisions)

    def change(self, spec: LineSpec, decisions: Decisions) -> None:
        """Apply other decisions from now on."""
        self.decisions = decisions
        """What happens to each segment."""
        self._markable = any(
            each.codel and each.ecn
            for each in (spec.parameters, *(phase.parameters for phase in spec.phases))
        )
        self._ring.decide(decisions.state())
        self.changed = True

    def use(self, source: Port, queue: int) -> None:
        """Fill the ring from this port; ``queue`` is the slot of its receiver."""
        self.source, self.target = source, source.receiver
        self._ring.queue = queue

    def close(self) -> None:
        """Give up the view of the ring's state."""
        self.counters.release()

    def begin(self, bursts: int = 1) -> bool:
        """Begin a burst; False when so many cannot be kept."""
        ring = self._ring
        if ring.records - (ring.head - ring.tail) < bursts * RECORDS_ROOM:
            return False
        start = ring.place(bursts * ROOM)
        if start < 0:
            return False
        ring.write, self._end = start, start + bursts * ROOM
        return True

    def save(self) -> None:
        """Put the state of the decisions into the ring's."""
        decisions = self.decisions
        if self.changed or decisions.shaped:
            self._ring.decide(decisions.state())
        else:
            self._ring.passed(decisions.segment, decisions.bits)
        self.changed = decisions.shaped

    # Frames in the ring.

    def put_one(self, offset: int, length: int, number: int, now_ns: int) -> None:
        """Add a frame of one segment to which nothing happens before the queue."""
        ring, decisions = self._ring, self.decisions
        frame = ring.data[offset : offset + length]
        octets = max(length, PADDED) + ON_WIRE
        due = decisions.deadline(now_ns, octets, 1, self._markable and ecn_capable(frame, length))
        if isinstance(due, Fate):
            ring.note(number, due)
            self.counters[DROP_WORDS[due]] += 1
            return
        if decisions.marked and mark_in_place(frame, length):
            ring.note(number, Fate.MARK)
            self.counters[MARKED] += 1
        ring.put(due, offset, length, 1, 1, frame[HEADER] & 1, now_ns, length - HEADER, offset)

    def copy(self, frame: bytes | memoryview) -> int:
        """Copy a frame to the ring; return where it is."""
        ring = self._ring
        offset = ring.write
        ring.write = end = offset + len(frame)
        ring.data[offset:end] = frame
        return offset

    @property
    def whole(self) -> bool:
        """True while frames that nothing happens to go on as they are, and meet no queue."""
        return self.target.offload and not self.decisions.shaped

    def pass_on(self, frames: Sequence[tuple[int, int, int, int]], now_ns: int, segments: int) -> None:
        """Add frames that lie in the ring and to which nothing happens: offset, length, segments, and whether
        each is for a group. They have so many segments altogether."""
        self.counters[OSEGMENTS] += segments
        self._ring.put_all(self.decisions.arrival(now_ns), frames, now_ns, HEADER)

    def admit(self, offset: int, length: int, now_ns: int) -> None:
        """Add a frame that lies in the ring, before ``ring.write``."""
        ring = self._ring
        frame = ring.data[offset : offset + length]
        if self.target.offload or not (frame[0] & 1 or frame[1]):
            self._admit(frame, offset, now_ns)
            return
        try:
            segments = segment(frame)
        except NotSegmentable:
            segments = []
        if not segments or not self._fits(len(segments), sum(map(len, segments))):
            count = max(1, len(segments))
            self.counters[OSEGMENTS] += count
            self._refuse(count)
            return
        ring.intake[ADDED] += len(segments) - 1
        self.changed = True
        for each in segments:
            at = self.copy(each)
            self._admit(ring.data[at : at + len(each)], at, now_ns)

    def _admit(self, frame: memoryview, offset: int, now_ns: int) -> None:
        """Decide about a frame and add what stays of it."""
        decisions, length = self.decisions, len(frame)
        found = shape(frame, length)
        segments = found.segments
        wire = total_wire_octets(found)
        number = decisions.segment
        hits: Sequence[Hit] = ()
        if not decisions.quiet(now_ns, segments, 8 * wire):
            self.changed = True
            last = wire_octets(found, segments - 1)
            hits = decisions.judge(now_ns, [wire_octets(found, 0)] * (segments - 1) + [last])
        self.counters[OSEGMENTS] += segments
        if not hits:
            if segments == 1:
                self.put_one(offset, length, number, now_ns)
                return
            if not decisions.shaped or wire <= decisions.piece_octets:
                due = decisions.deadline(now_ns, wire, segments)
                if not isinstance(due, Fate):
                    group = frame[HEADER] & MULTICAST
                    self._ring.put(due, offset, length, segments, 1, group, now_ns, length - HEADER, offset)
                    return
        if self._fits(segments, length):
            self._divide(frame, offset, found, hits, number, now_ns)
        else:
            self._refuse(segments)

    def _fits(self, parts: int, octets: int) -> bool:
        """Return whether a frame can be divided into so many parts.

        What a kernel sends always can. A frame made by a program may have more segments than that."""
        ring = self._ring
        room = ring.records - (ring.head - ring.tail)
        return 2 * parts < room and 2 * (octets + parts * _PART_HEADERS) < self._end - ring.write

    def _divide(
        self, frame: memoryview, offset: int, found: Shape, hits: Sequence[Hit], number: int, now_ns: int
    ) -> None:
        """Add the parts of a frame whose first segment has this number."""

        def overtake(place: int, fates: Collection[Fate]) -> bool:
            return self.overtake(frame, found, place, number + place, fates)

        markable = self._markable and ecn_capable(frame, len(frame))
        division = Division(self.decisions, found, now_ns, markable=markable, overtake=overtake)
        division.divide(hits)
        ring, counters = self._ring, self.counters
        for place, fate in division.fates:
            ring.note(number + place, fate)
            if fate in DROPS:
                counters[DROP_WORDS[fate]] += 1
        counters[CUT] += len(division.parts) + division.overtaken + division.dropped - 1
        counters[DUPLICATED] += len(division.twice)
        copies = {part: self.altered(frame, found, part, number) for part in division.parts if part.fate}
        twice = [extract(frame, found, each, each + 1) for each in division.twice]
        group = frame[HEADER] & MULTICAST
        stays = [(part.start, part.stop) for part in division.parts if part not in copies]
        cut = iter(pieces(frame, found, stays))
        last = max(now_ns, ring.last)
        for part in division.parts:
            copy = copies.get(part)
            if copy is None:
                piece = next(cut)
                at, length, copy = offset + piece.offset, piece.length, piece.copy
            if copy is not None:
                at, length = self.copy(copy), len(copy)
            last = part.deadline
            ring.put(last, at, length, part.stop - part.start, 1, group, now_ns, length - HEADER, offset)
        for copy in twice:
            ring.put(last, self.copy(copy), len(copy), 1, 1, group, now_ns, len(copy) - HEADER, offset)

    def altered(self, frame: memoryview, found: Shape, part: Part, number: int) -> bytes:
        """Return a segment of a frame whose first segment has this number, corrupted or marked."""
        if part.fate is Fate.CORRUPT:
            self.counters[CORRUPTED] += 1
            bit = self.decisions.corrupt_bit(number + part.start, 1 << 32)
            return corrupt(frame, found, part.start, bit)
        marked = mark(frame, found, part.start) if part.fate is Fate.MARK else None
        if marked is None:
            return extract(frame, found, part.start, part.stop)
        self.counters[MARKED] += 1
        return marked

    def overtake(
        self, frame: memoryview | bytes, found: Shape, place: int, number: int, fates: Collection[Fate]
    ) -> bool:
        """Write a segment before everything that is held, if that is among its fates; False when it is not,
        or when the receiver takes nothing."""
        target, ring = self.target, self._ring
        if Fate.REORDER not in fates or target.backlog:
            return False
        counters = self.counters
        before = counters[CORRUPTED], counters[MARKED]
        part = Part(place, place + 1, 0, change_of(fates))
        single = self.altered(memoryview(frame), found, part, number - place)
        ring.begin()
        # The error itself would keep this call, and with it views of the ring, until garbage is collected.
        written = target.write(single) is None
        if written:
            target.account.received((single,), single[HEADER] & 1)
            counters[REORDERED] += 1
        else:
            counters[CORRUPTED], counters[MARKED] = before
        ring.rest(self._receiver)
        return written

    def _refuse(self, segments: int) -> None:
        """Count a frame of so many segments that cannot be held."""
        self.counters[ESEGMENTS] += segments
        self.changed = True
        self.target.account.lost(WRITE_ERROR)
