"""A line: the impairment of one direction of a cable, from one interface to its receiver.

Frames are read into a ring in shared memory together with their deadlines, and written from there when they
are due: :mod:`epaird.dataplane.impair.intake`, :mod:`epaird.dataplane.impair.release`. The rules:

1. Frames stay in order: a deadline is never before the one in front of it, whatever changes. Only a segment
   that is to be reordered is written before what is held.
2. Nothing is dropped for want of room. A line whose ring is full does not read: its ports are marked OACTIVE
   and listed, and the kernel's rings fill. When there is room again their receivers count as drained.
3. A receiver that takes nothing blocks the line; it goes on when the receiver has room.
4. A line whose impairment is removed goes on without one until it holds nothing, and is dropped then.
5. Whatever a worker knows of a line is in the ring after each burst, so another process can go on with it.

Where the interfaces have several queues, each is a port of its own, and all ports that transmit in one
direction have one line, because a link has one rate, one order and one sequence of decisions:

6. What was read from a queue is written to the receiver's queue of the same number. The ring is one FIFO for
   all: a queue that takes nothing blocks the others, too.
7. Nothing is released while a queue is missing: at first, until all are attached; later, once one of them is
   detached. The ring relies on the kernel's count of what was written to the device, and a queue without its
   line may be written to without the ring's knowledge.
8. All deliveries are counted in one slot, that of the receiver's first queue: the ring has one set of
   counters to restore.
"""

from __future__ import annotations

from collections.abc import Callable

from epaird.dataplane.burst import Burst
from epaird.dataplane.frames import HEADER
from epaird.dataplane.impair.bursts import Bursts
from epaird.dataplane.impair.decisions import Decisions
from epaird.dataplane.impair.direct import FEW, LONG, Direct
from epaird.dataplane.impair.intake import Intake
from epaird.dataplane.impair.release import Release
from epaird.dataplane.impair.timetable import NEVER, Timetable
from epaird.dataplane.pipeline import Pipeline
from epaird.dataplane.port import Port
from epaird.ipc.counters import ADDED_SEGMENTS, DOWN, FLUSHED, FULL
from epaird.ipc.impairment import LineSpec
from epaird.ipc.ledger import Words
from epaird.ipc.linecounters import mirror, mirror_held, mirror_released
from epaird.ipc.ring import Ring
from epaird.ipc.ringchanges import give_back
from epaird.ipc.ringfile import ADDED, HEAD, OCTETS, OUT


class Line:
    """The line of the ports that transmit in one direction."""

    __slots__ = (
        "_blocked", "_bursts", "_clock", "_direct", "_directly", "_drained", "_draining", "_given", "_intake",
        "_limit", "_passed", "_paused", "_pipeline", "_queues", "_receiver", "_release", "_ring", "_slots",
        "_targets", "_timetable", "_waiting", "_words", "due_ns",
    )  # fmt: skip

    def __init__(
        self,
        spec: LineSpec,
        ring: Ring,
        decisions: Decisions,
        words: Words,
        receiver: Words,
        pipeline: Pipeline,
        timetable: Timetable,
        clock: Callable[[], int],
        drained: Callable[[Line], None],
    ) -> None:
        """Continue with what the ring holds, as the line of ports that :meth:`add` adds.

        ``decisions`` continue with the ring's state, ``words`` is the line's slot of the ledger. ``receiver``
        is the slot of the receiver's first queue; the slots of its queues have everything that was written
        to its device. ``drained`` is called when the line holds nothing and none of its ports needs it."""
        self.due_ns = NEVER
        """The time of its next frame, or NEVER while nothing waits for its time; the timetable's."""
        self._ring = ring
        self._words = words
        self._receiver = receiver
        self._pipeline = pipeline
        self._timetable = timetable
        self._clock = clock
        self._limit = spec.buffer
        self._queues = spec.queues
        self._slots: dict[Port, int] = {}
        """Its ports, each with the slot of the queue that it transmits to."""
        self._targets: dict[int, Port] = {}
        """These queues by slot."""
        self._waiting: dict[Port, None] = {}
        """Ports that the ring had no room for, in this order."""
        self._paused: set[Port] = set()
        self._draining: set[Port] = set()
        """Ports without impairment."""
        self._drained = drained
        self._blocked = False
        self._directly = True
        self._passed = self._given = -1
        self._intake = Intake(ring, receiver, spec, decisions)
        self._bursts = Bursts(ring, self._intake, pipeline.coalescer)
        self._direct = Direct(ring, self._intake, pipeline)
        self._release = Release(ring, receiver, self._targets)
        ring.suspended = True
        ring.settle(None, receiver)
        ring.intake[ADDED] = receiver[ADDED_SEGMENTS]
        ring.commit_intake()
        mirror(ring.intake, ring.release, words)
        words[FULL] = 0

    # Ports.

    @property
    def ports(self) -> tuple[Port, ...]:
        """The ports that transmit into it."""
        return tuple(self._slots)

    @property
    def complete(self) -> bool:
        """True while it has all its ports."""
        return len(self._slots) >= self._queues

    def add(self, port: Port, slot: int) -> None:
        """Become the line of a port, whose receiver has this slot."""
        self._slots[port] = slot
        self._targets[slot] = port.receiver
        port.line = port.receiver.incoming = self
        self._intake.use(port, slot)
        self._resume()

    def remove(self, port: Port) -> None:
        """Read nothing more from a port; the ring stays as it is."""
        if port not in self._slots:
            return
        del self._targets[self._slots.pop(port)]
        port.line = port.receiver.incoming = None
        self._waiting.pop(port, None)
        self._paused.discard(port)
        self._draining.discard(port)
        self._words[FULL] = 0
        self._resume()

    def _resume(self) -> None:
        """Release what is due if all ports are there; else nothing."""
        self._timetable.cancel(self)
        self._ring.suspended = not self.complete
        self._ring.rest(self._receiver)
        self._blocked = False
        self._schedule()
        if self._slots:
            self._look_again()

    @property
    def spare(self) -> bool:
        """True while one more burst can be kept."""
        return self._intake.begin()

    @property
    def empty(self) -> bool:
        """True while it holds nothing."""
        return self._ring.head == self._ring.tail

    # Frames that the ports' owner transmitted.

    def transmit(self, source: Port) -> bool:
        """Read a burst and hold it. True when there was no more to read; False when there may be, or when the
        ring is full: then nothing was read and the port is on the drain list."""
        pipeline = self._pipeline
        if not self._has_room():
            self._waiting[source] = None
            self._words[FULL] = not self._blocked
            pipeline.queue.overflow(source)
            pipeline.poller.stop_reading(source)
            return False
        if self._directly:
            exhausted = self._read_directly(source)
        else:
            exhausted = pipeline.forward(source, source.at_once, self)
        if self._timetable.next_ns <= (now_ns := self._clock()):
            self._timetable.run(now_ns)
        else:
            pipeline.burst.lengths = []  # nothing was delivered that could be answered
        return exhausted

    def take(self, source: Port, burst: Burst) -> None:
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
        self._directly = count <= FEW or lengths[-1] > LONG
        if source is not self._intake.source:
            self._intake.use(source, self._slots[source])
        self._bursts.take(burst, now_ns, multicasts)
        self._publish(source, count, octets, multicasts)

    def _read_directly(self, source: Port) -> bool:
        """Read frames into the ring; as :meth:`transmit`."""
        direct = self._direct
        exhausted = direct.read(source)
        count = len(direct.frames)
        self._pipeline.burst.lengths = [count] * count  # not empty if answers may follow
        if not count:
            return exhausted
        if source.account.words[DOWN] and source.down:
            source.account.undeliverable(FLUSHED, count)
            return exhausted
        if source is not self._intake.source:
            self._intake.use(source, self._slots[source])
        octets, multicasts = direct.take(self._clock())
        self._directly = direct.again
        self._publish(source, count, octets, multicasts)
        return exhausted

    def _publish(self, source: Port, count: int, octets: int, multicasts: int) -> None:
        """Commit what was read, and count it."""
        ring = self._ring
        before = ring.intake[HEAD]
        changed = self._intake.changed
        self._intake.save()
        ring.commit_intake()
        source.account.sent(count, octets, multicasts)
        if changed:
            self._receiver[ADDED_SEGMENTS] = ring.intake[ADDED]
            mirror(ring.intake, ring.release, self._words)
        else:
            mirror_held(ring.intake, ring.release, self._words)
        if ring.tail == before and ring.head > before:
            self._schedule()

    # Frames for the receiver.

    def run(self, now_ns: int, until_ns: int) -> int:
        """Release what is due until a time; return how many writes that took."""
        first = self._ring.tail
        if not (self._paused or self._ring.suspended):
            refusing = self._release.run(now_ns, until_ns)
            mirror_released(self._ring.intake, self._ring.release, self._words)
            self._blocked = refusing is not None
            if refusing is not None:
                self._pipeline.poller.await_room(refusing)
            self._schedule()
        released = self._ring.tail - first
        if self._waiting:
            if self._has_room():
                self._restart()
            self._words[FULL] = bool(self._waiting) and not self._blocked
        if self._draining and len(self._draining) == len(self._slots) and self.empty:
            self._drained(self)
        return released

    def _restart(self) -> None:
        """Have the ports read that the ring had no room for, the one that has waited longest first."""
        waiting, self._waiting = self._waiting, {}
        for source in waiting:
            self._pipeline.queue.drained(source.receiver)
        self._pipeline.poller.await_restart()

    def resume(self) -> None:
        """Release what is due: a receiver takes frames again."""
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
        if self._blocked or ring.head == ring.tail or self._paused or ring.suspended:
            return
        self._timetable.schedule(self, ring.record(ring.tail)[0])

    def begin(self) -> None:
        """Announce that frames are written to a receiver which the line does not hold."""
        self._ring.begin()

    def rest(self) -> None:
        """Record that these frames are counted in the receiver's slot."""
        self._ring.rest(self._receiver)

    # Changes.

    def change(self, spec: LineSpec, decisions: Decisions) -> None:
        """Apply another impairment to what is read from now on."""
        self._limit = spec.buffer
        self._intake.change(spec, decisions)
        self._ring.commit_intake()
        self._look_again()

    def stop_impairing(self) -> None:
        """Apply no impairment to what is read from now on."""
        spec = LineSpec(buffer=self._limit)
        self.change(spec, Decisions(spec, self.state()))

    def drain(self, port: Port, *, draining: bool) -> None:
        """Record whether a port needs the line only until it holds nothing."""
        if draining:
            self._draining.add(port)
            self._look_again()
        else:
            self._draining.discard(port)

    def state(self) -> tuple[int, ...]:
        """Return the state of its decisions."""
        return self._intake.decisions.state()

    def pause(self, port: Port, *, paused: bool) -> None:
        """Release nothing while a port is paused."""
        if paused:
            self._paused.add(port)
            self._timetable.cancel(self)
        else:
            self._paused.discard(port)
            self._blocked = False
            self._schedule()

    def tend(self) -> None:
        """Give back the memory of its ring if it held nothing since the last call. To be called regularly."""
        head = self._ring.head
        if head == self._passed != self._given and self.empty and self.complete:
            self._given = head
            give_back(self._ring)
        self._passed = head

    def close(self) -> None:
        """Give up the views of its ring."""
        self._intake.close()

    def _look_again(self) -> None:
        """Run soon: there may be room now, or nothing held."""
        if self._waiting or self._draining:
            self._timetable.schedule(self, 0)
