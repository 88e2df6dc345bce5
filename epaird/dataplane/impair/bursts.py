"""Bursts of small frames: what is hit is taken out, the rest is joined and copied to the ring.

Nothing is done for each frame that can be done for the burst. Where frames are dropped, those around them are
joined where they lie; they are moved together only where datagrams have to be examined one by one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain, repeat

from epaird.dataplane.burst import Burst
from epaird.dataplane.coalesce import Coalescer, Delivery
from epaird.dataplane.frames import HEADER
from epaird.dataplane.impair.division import DROP_WORDS, Part, by_segment, change_of
from epaird.dataplane.impair.fates import DROPS, Fate, Hit, only_drops
from epaird.dataplane.impair.intake import Intake
from epaird.dataplane.impair.pieces import single
from epaird.dataplane.impair.wire import ON_WIRE, PADDED
from epaird.ipc.counters import DUPLICATED, OSEGMENTS
from epaird.ipc.ring import Ring
from epaird.ipc.ringfile import JOINED, MULTICAST


class Bursts:
    """Puts bursts into the ring of one line."""

    __slots__ = ("_beyond", "_coalescer", "_intake", "_ring")

    def __init__(self, ring: Ring, intake: Intake, coalescer: Coalescer) -> None:
        """``coalescer`` joins the datagrams of the burst that frames are read into."""
        self._ring = ring
        self._intake = intake
        self._coalescer = coalescer
        self._beyond: list[bytes] = []
        """Frames of a burst for which it has no slots."""

    def take(self, burst: Burst, now_ns: int, groups: int) -> None:
        """Add the frames of a burst, all of them accepted, of which ``groups`` are for a group."""
        if burst.superframes() or (not self._intake.target.offload and burst.offloaded()):
            for view in burst.frames(range(len(burst.lengths))):
                self._intake.admit(self._intake.copy(view), len(view), now_ns)
            return
        lengths, decisions = burst.lengths, self._intake.decisions
        count = len(lengths)
        first = decisions.segment
        numbers: Sequence[int] = range(first, first + count)
        runs: Sequence[range] | None = None
        self._intake.counters[OSEGMENTS] += count
        if not decisions.quiet(now_ns, count, 8 * _wire(lengths)):
            self._intake.changed = True
            hits = decisions.judge(now_ns, _sizes(lengths))
            if hits and (decisions.shaped or not only_drops(hits)):
                numbers = self._edit(burst, hits, first)
            elif hits:
                runs = self._drop(hits, first, count)
        if burst.lengths and runs != []:
            self._publish(burst, numbers, runs, now_ns, groups)
        if self._beyond:
            beyond, self._beyond = self._beyond, []
            for number, frame in zip(numbers[-len(beyond) :], beyond, strict=True):
                self._intake.put_one(self._intake.copy(frame), len(frame), number, now_ns)

    def _drop(self, hits: Sequence[Hit], first: int, count: int) -> Sequence[range]:
        """Count frames of a burst as dropped; return the slots that stay, as many in a row as there are."""
        start = 0
        runs = []
        for slot, fate in hits:
            self._ring.note(first + slot, fate)
            self._intake.counters[DROP_WORDS[fate]] += 1
            runs.append(range(start, slot))
            start = slot + 1
        runs.append(range(start, count))
        return [run for run in runs if run]

    def _edit(self, burst: Burst, hits: Sequence[Hit], first: int) -> list[int]:
        """Apply what hits frames of a burst, the first of which has this number as a segment; return the
        numbers of those that stay."""
        ring, counters, fates = self._ring, self._intake.counters, by_segment(hits)
        start = hits[0].segment
        numbers = list(range(first, first + start))
        stay: list[bytes] = []
        for slot, view in enumerate(burst.frames(range(start, len(burst.lengths))), start):
            hit = fates.get(slot, ())
            for fate in hit:
                ring.note(first + slot, fate)
            if hit and hit[0] in DROPS:
                counters[DROP_WORDS[hit[0]]] += 1
                continue
            frame = bytes(view)
            if hit and not self._intake.overtake(frame, single(len(frame)), 0, first + slot, hit):
                if change_of(hit):
                    part = Part(0, 1, 0, change_of(hit))
                    frame = self._intake.altered(view, single(len(view)), part, first + slot)
                stay.append(frame)
                numbers.append(first + slot)
            elif not hit:
                stay.append(frame)
                numbers.append(first + slot)
            if Fate.DUPLICATE in hit:
                counters[DUPLICATED] += 1
                stay.append(bytes(view))
                numbers.append(first + slot)
        self._beyond = burst.replace(start, stay)
        return numbers

    def _publish(
        self, burst: Burst, numbers: Sequence[int], runs: Sequence[range] | None, now_ns: int, groups: int
    ) -> None:
        """Add the frames of a burst to the ring, or with ``runs`` those in these slots, datagrams joined."""
        decisions, count = self._intake.decisions, len(burst.lengths)
        due: int | Fate = Fate.QUEUE_FULL
        if not decisions.shaped:
            due = decisions.arrival(now_ns)
        elif count > 1 and (wire := _wire(burst.lengths)) <= decisions.piece_octets:
            due = decisions.deadline(now_ns, wire, count)
        if isinstance(due, Fate):
            for number, view in zip(numbers, burst.frames(range(count)), strict=False):
                self._intake.put_one(self._intake.copy(view), len(view), number, now_ns)
            return
        for buffers, slots in self._joined(burst, runs):
            if buffers is None:
                self._put_singly(burst, slots, due, now_ns, groups)
                continue
            frame = b"".join(buffers)
            # The headers of the first are the only ones that are left.
            octets = len(frame) - HEADER + (len(slots) - 1) * (len(buffers[0]) - HEADER)
            flags = JOINED | (MULTICAST if groups and burst.is_multicast(slots[0]) else 0)
            offset = self._intake.copy(frame)
            self._ring.put(due, offset, len(frame), len(slots), len(slots), flags, now_ns, octets, offset)

    def _joined(self, burst: Burst, runs: Sequence[range] | None) -> Sequence[Delivery]:
        """Return how to deliver the burst. The other slots may be removed from it."""
        lengths, coalesce = burst.lengths, self._intake.source.coalesce
        if runs is None:
            joined = self._coalescer.join(lengths) if coalesce else None
            return joined or (Delivery(None, range(len(lengths))),)
        slots = [*chain(*runs)]
        if not coalesce:
            return (Delivery(None, slots),)
        joined = self._coalescer.join_runs(lengths, runs)
        if joined is not None:
            return joined
        burst.keep(slots)
        return self._joined(burst, None)

    def _put_singly(self, burst: Burst, slots: Sequence[int], due: int, now_ns: int, groups: int) -> None:
        frames = burst.frames(slots)
        lengths = [*map(len, frames)]
        offset = self._intake.copy(b"".join(frames))
        flags = [frame[HEADER] & MULTICAST for frame in frames] if groups else repeat(0)
        parts = zip(accumulate(lengths, initial=offset), lengths, repeat(1), flags, strict=False)
        self._ring.put_all(due, parts, now_ns, HEADER)


def _wire(lengths: Sequence[int]) -> int:
    """Return the bytes on the wire of frames of one segment, from their lengths with virtio_net_hdr."""
    count, first = len(lengths), lengths[0]
    if first >= PADDED and lengths.count(first) == count:
        return (first + ON_WIRE) * count
    return sum([max(length, PADDED) for length in lengths]) + ON_WIRE * count


def _sizes(lengths: Sequence[int]) -> list[int]:
    """Return the bytes on the wire of each of these frames."""
    count, first = len(lengths), lengths[0]
    if lengths.count(first) == count:
        return [max(first, PADDED) + ON_WIRE] * count
    return [max(each, PADDED) + ON_WIRE for each in lengths]
