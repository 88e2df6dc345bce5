"""A line: the impairment of what one port transmits, from its device to its receiver's.

Frames are read into a ring in shared memory together with their deadlines, and written from there when they
are due: :mod:`epaird.dataplane.impair.intake`, :mod:`epaird.dataplane.impair.release`. The rules:

1. Frames stay in order: a deadline is never before the one in front of it, whatever changes. Only a segment
   that is to be reordered is written before what is held.
2. Nothing is dropped for want of room. A line whose ring is full does not read: its port is marked OACTIVE
   and listed, and the kernel's ring fills. When there is room again the receiver counts as drained.
3. A receiver that takes nothing blocks the line; it goes on when the receiver has room.
4. A line whose impairment is removed goes on without one until it holds nothing, and is dropped then.
5. Whatever a worker knows of a line is in the ring after each burst, so another process can go on with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from epaird.dataplane.burst import SLOT, Burst
from epaird.dataplane.frames import HEADER, SHORTEST
from epaird.dataplane.impair.decisions import Decisions
from epaird.dataplane.impair.intake import Intake
from epaird.dataplane.impair.release import Release
from epaird.dataplane.impair.timetable import NEVER, Timetable
from epaird.dataplane.pipeline import Pipeline
from epaird.dataplane.port import Port
from epaird.ipc.counters import ADDED_SEGMENTS, DOWN, FLUSHED, FULL
from epaird.ipc.impairment import LineSpec
from epaird.ipc.ledger import Words
from epaird.ipc.ring import Ring
from epaird.ipc.ringchanges import give_back
from epaird.ipc.ringfile import ADDED, HEAD, OCTETS, OUT

LONG: Final = 4096
"""Bytes of a frame after which frames are read straight into the ring."""
LONG_AT_ONCE: Final = 4
"""Long frames that make a burst."""


class Line:
    """The line of one port."""

    __slots__ = (
        "_blocked", "_clock", "_drained", "_full", "_given", "_intake", "_limit", "_long", "_passed",
        "_pipeline", "_release", "_ring", "_source", "_target", "_timetable", "_words", "due_ns",
    )  # fmt: skip

    def __init__(
        self,
        spec: LineSpec,
        ring: Ring,
        decisions: Decisions,
        source: Port,
        words: Words,
        pipeline: Pipeline,
        timetable: Timetable,
        clock: Callable[[], int],
    ) -> None:
        """Become the line of ``source`` and continue with what the ring holds.

        ``decisions`` continue with the ring's state, ``words`` is the line's slot of the ledger. The
        receiver's slot has everything that was written to its device."""
        self.due_ns = NEVER
        """The time of its next frame, or NEVER while nothing waits for its time; the timetable's."""
        self._ring = ring
        self._source = source
        self._target = source.receiver
        self._words = words
        self._pipeline = pipeline
        self._timetable = timetable
        self._clock = clock
        self._limit = spec.buffer
        self._full = False
        self._blocked = False
        self._long = False
        self._passed = self._given = -1
        self._drained: Callable[[], None] | None = None
        self._intake = Intake(ring, source, pipeline.coalescer, spec, decisions)
        self._release = Release(ring, self._target)
        ring.settle(None, self._target.account.words)
        ring.intake[ADDED] = self._target.account.words[ADDED_SEGMENTS]
        ring.commit_intake()
        ring.mirror(words)
        words[FULL] = 0
        source.line = self
        self._target.incoming = self
        self._schedule()

    @property
    def spare(self) -> bool:
        """True while one more burst can be kept."""
        return self._intake.begin()

    @property
    def active(self) -> bool:
        """True until it is stopped."""
        return self._source.line is self

    @property
    def empty(self) -> bool:
        """True while it holds nothing."""
        return self._ring.head == self._ring.tail

    # Frames that the port's owner transmitted.

    def transmit(self) -> bool:
        """Read a burst and hold it. True when there was no more to read; False when there may be, or when the
        ring is full: then nothing was read and the port is on the drain list."""
        source, pipeline = self._source, self._pipeline
        if not self._has_room():
            self._full = True
            self._words[FULL] = not self._blocked
            pipeline.queue.overflow(source)
            pipeline.poller.stop_reading(source)
            return False
        exhausted = self._read_long() if self._long else pipeline.forward(source, source.at_once, self)
        if self._timetable.next_ns <= (now_ns := self._clock()):
            self._timetable.run(now_ns)
        else:
            pipeline.burst.lengths = []  # nothing was delivered that could be answered
        return exhausted

    def take(self, burst: Burst) -> None:
        """Hold the accepted frames of a burst, and count them as transmitted."""
        now_ns = self._clock()
        if burst.verdicts:
            burst.compact()
            if not burst.lengths:
                return
        lengths = burst.lengths
        count = len(lengths)
        octets = sum(lengths) - HEADER * count
        multicasts = burst.multicasts()
        self._long = lengths[-1] > LONG
        self._intake.take(burst, now_ns, multicasts)
        self._publish(count, octets, multicasts)

    def _read_long(self) -> bool:
        """Read frames into the ring; as :meth:`transmit`."""
        source, ring, burst = self._source, self._ring, self._pipeline.burst
        offset = ring.write
        found: list[tuple[int, int]] = []
        burst.lengths, burst.verdicts = [], {}
        exhausted = False
        for _ in range(LONG_AT_ONCE if self._target.offload else 1):
            view = ring.data[offset : offset + SLOT]
            try:
                length = source.read(view)
            except OSError:
                self._pipeline.poller.gone(source)
                length = None
            if length is None:
                exhausted = True
                break
            if not SHORTEST <= length <= source.limit:
                reason = source.examine(view, length, source.limit)
                if reason is not None:
                    self._pipeline.refuse(source, view[:length], reason)
                    continue
            found.append((offset, length))
            offset += length
            burst.lengths.append(length)
        if found:
            self._take_long(found)
        return exhausted

    def _take_long(self, found: Sequence[tuple[int, int]]) -> None:
        """Hold frames that lie in the ring."""
        source, ring = self._source, self._ring
        if source.account.words[DOWN] and source.down:
            source.account.undeliverable(FLUSHED, len(found))
            return
        now_ns = self._clock()
        multicasts = octets = 0
        ring.write = sum(found[-1])
        for offset, length in found:
            octets += length - HEADER
            multicasts += ring.data[offset + HEADER] & 1
            self._intake.admit(offset, length, now_ns)
        self._long = found[-1][1] > LONG
        self._publish(len(found), octets, multicasts)

    def _publish(self, count: int, octets: int, multicasts: int) -> None:
        """Commit what was read, and count it."""
        ring, target = self._ring, self._target.account.words
        before = ring.intake[HEAD]
        changed = self._intake.changed
        self._intake.save()
        ring.commit_intake()
        target[ADDED_SEGMENTS] = ring.intake[ADDED]
        self._source.account.sent(count, octets, multicasts)
        if changed:
            ring.mirror(self._words)
        else:
            ring.mirror_intake(self._words)
        if ring.tail == before and ring.head > before:
            self._schedule()

    # Frames for the receiver.

    def run(self, now_ns: int, until_ns: int) -> int:
        """Release what is due until a time; return how many writes that took."""
        first = self._ring.tail
        if not self._target.backlog:
            self._blocked = not self._release.run(now_ns, until_ns)
            self._ring.mirror_release(self._words)
        else:
            self._blocked = True
        released = self._ring.tail - first
        if self._blocked:
            self._pipeline.poller.await_room(self._target)
        self._schedule()
        if self._full:
            self._full = not self._has_room()
            self._words[FULL] = self._full and not self._blocked
            if not self._full:
                self._pipeline.queue.drained(self._target)
                self._pipeline.poller.await_restart()
        if self._drained is not None and self.empty:
            drained, self._drained = self._drained, None
            drained()
        return released

    def resume(self) -> None:
        """Release what is due: the receiver takes frames again."""
        self._blocked = False
        now_ns = self._clock()
        self.run(now_ns, now_ns)

    def _has_room(self) -> bool:
        """Return whether a burst may be read."""
        ring = self._ring
        return ring.intake[OCTETS] - ring.release[OUT + 2] < self._limit and self._intake.begin(2)

    def _schedule(self) -> None:
        """Have the next frame released when it is due."""
        ring = self._ring
        if self._blocked or ring.head == ring.tail:
            return
        self._timetable.schedule(self, ring.record(ring.tail)[0])

    def begin(self) -> None:
        """Announce that frames are written to the receiver which the line does not hold."""
        self._ring.begin()

    def rest(self) -> None:
        """Record that these frames are counted in the receiver's slot."""
        self._ring.rest(self._target.account.words)

    # Changes.

    def change(self, spec: LineSpec, decisions: Decisions) -> None:
        """Apply another impairment to what is read from now on."""
        self._limit = spec.buffer
        self._intake.change(spec, decisions)
        self._ring.commit_intake()
        self._drained = None
        self._look_again()

    def drain(self, drained: Callable[[], None]) -> None:
        """Apply no impairment from now on, and call ``drained`` once nothing is held."""
        spec = LineSpec(buffer=self._limit)
        self.change(spec, Decisions(spec, self.state()))
        self._drained = drained
        self._look_again()

    def state(self) -> tuple[int, ...]:
        """Return the state of its decisions."""
        return self._intake.decisions.state()

    def pause(self, *, paused: bool) -> None:
        """Release nothing, or go on."""
        self._timetable.cancel(self)
        if not paused:
            self._blocked = False
            self._schedule()

    def stop(self) -> None:
        """Leave the ring as it is: nothing is read or released any more."""
        self._timetable.cancel(self)
        self._drained = None
        if self.active:
            self._source.line = None
            self._words[FULL] = 0
        if self._target.incoming is self:
            self._target.incoming = None

    def tend(self) -> None:
        """Give back the memory of its ring if it held nothing since the last call. To be called regularly."""
        head = self._ring.head
        if head == self._passed != self._given and self.empty and self.active:
            self._given = head
            give_back(self._ring)
        self._passed = head

    def close(self) -> None:
        """Give up the views of its ring."""
        self._intake.close()

    def _look_again(self) -> None:
        """Run soon: there may be room now, or nothing held."""
        if self._full or self._drained is not None:
            self._timetable.schedule(self, 0)
