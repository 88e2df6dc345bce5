"""What happens to each segment of a line: lost, delayed, marked, and so on. No I/O, no clock.

1. A decision depends on the seed, the process that makes it, and the number of the segment (or bit); the
   delay on the moment. So it is the same however the traffic is divided into frames and calls.
2. The caller asks :meth:`Decisions.quiet` for a burst, which is one comparison where nothing happens, and
   :meth:`Decisions.judge` where something may. Either counts the segments.
3. For what is not dropped it then asks :meth:`Decisions.deadline`, in order.
4. :meth:`Decisions.state` is everything that another process needs to go on.

Losses are decided before the queue: lost segments take no time of the rate.

When parameters change, by a phase of the schedule or because the user changes them, each process whose
probabilities are the same goes on; the others are drawn anew from the present segment. Segments that the
queue has accepted keep their times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from epaird.dataplane.impair.fates import DROPS, Fate, Hit
from epaird.dataplane.impair.linequeue import QUEUE_WORDS, LineQueue
from epaird.dataplane.impair.pathdelay import PathDelay
from epaird.dataplane.impair.processes import PROCESSES_WORDS, UNCHECKED_BITS, Processes
from epaird.dataplane.impair.replay import Replay
from epaird.dataplane.impair.schedule import parameters_at
from epaird.dataplane.impair.shaper import PIECE_NS, SECOND, Bottleneck, Shaper
from epaird.dataplane.impair.streams import NEVER, Stream, StreamNumber
from epaird.dataplane.impair.trace import Opportunities
from epaird.ipc.impairment import LineParameters, LineSpec

__all__ = ("DROPS", "STATE_WORDS", "Decisions", "Fate", "Hit")

STATE_WORDS: Final = 44
"""Unsigned 64-bit words of the state of one line."""

_LAYOUT: Final = 1
_QUEUE: Final = 4
_REPLAY: Final = _QUEUE + QUEUE_WORDS
_PROCESSES: Final = _REPLAY + 2
_NEW: Final = (0,) * STATE_WORDS
_SPARE: Final = (0,) * (STATE_WORDS - _PROCESSES - PROCESSES_WORDS)
_NO_REPLAY: Final = (0, 0)
_NO_PROCESSES: Final = (0,) * (STATE_WORDS - _PROCESSES)


def new_state(last_ns: int) -> tuple[int, ...]:
    """Return the state of decisions that begin anew behind frames the last of which is due at a time."""
    return (_LAYOUT, 0, 0, last_ns, *_NEW[_QUEUE:])


def is_sound(state: Sequence[int], last_ns: int) -> bool:
    """Return whether decisions may have left a state in a ring whose last frame is due at a time.

    Random places and the contents of the queue may be any: each is used as a bound only."""
    if not state or state[0] != _LAYOUT:
        return True  # not used
    return (
        len(state) == STATE_WORDS
        and max(state[1:_QUEUE]) < NEVER
        and state[_QUEUE] <= state[_QUEUE - 1] <= last_ns
    )


class Decisions:
    """The decisions of one line."""

    __slots__ = (
        "_change_ns", "_delay_ns", "_drawn", "_last", "_path", "_path_parameters", "_queue",
        "_queue_words", "_replay", "_source", "_spec", "_trace", "bits", "marked",
        "piece_octets", "segment", "shaped",
    )  # fmt: skip

    def __init__(
        self,
        spec: LineSpec,
        state: Sequence[int] = (),
        trace: Sequence[int] | None = None,
        replay: Sequence[int] | None = None,
    ) -> None:
        """Go on from ``state``, of this line or of the same line with other parameters; begin with segment 0
        where it is empty or all zeros.

        ``trace`` and ``replay`` are the files that the specification announces, as unsigned 64-bit numbers:
        for instance ``memoryview(mmap).cast("Q")``.

        The parameters depend on the time: the attributes are right after the first :meth:`judge`, and
        :meth:`quiet` is False before it."""
        words = tuple(state) if state and state[0] == _LAYOUT else _NEW
        self.segment: int = words[1]
        """Number of the next segment."""
        self.bits: int = words[2]
        """Number of the next bit that a check sequence protects."""
        self.marked = False
        """True where CoDel marks the segment that :meth:`deadline` was last asked about."""
        self.shaped = False
        """True where :meth:`deadline` is to be asked about each segment, or about pieces of
        ``piece_octets``."""
        self.piece_octets = 0
        """Bytes on the wire that take a millisecond in the mean; 0 without a rate."""
        self._spec = spec
        if trace is not None:
            Opportunities(trace, spec.applied_ns)
        self._trace = trace
        self._replay = replay
        self._last: int = words[3]
        self._queue: LineQueue | None = None
        self._queue_words = words[_QUEUE:_REPLAY]
        self._drawn = words[_REPLAY:]
        self._source: Processes | Replay = Replay((), 0, 0)
        self._path: PathDelay | None = None
        self._path_parameters: tuple[int, int, float, str] | None = None
        self._delay_ns = 0
        self._change_ns = 0

    def quiet(self, now_ns: int, segments: int, bits: int) -> bool:
        """Count the next segments, of so many bits on the wire altogether, if nothing happens to any of them
        and no phase begins or ends; else return False."""
        segment = self.segment + segments
        bit = self.bits + bits - UNCHECKED_BITS * segments
        source = self._source
        if segment > source.next or bit > source.next_bit or now_ns >= self._change_ns:
            return False
        self.segment = segment
        self.bits = bit
        return True

    def judge(self, now_ns: int, sizes: Sequence[int]) -> list[Hit]:
        """Count the next segments, of these bytes on the wire, and return what happens to them, in order. A
        segment that is dropped has no other fate."""
        if now_ns >= self._change_ns:
            self._switch(now_ns)
        first, bit = self.segment, self.bits
        self.segment += len(sizes)
        self.bits += 8 * sum(sizes) - UNCHECKED_BITS * len(sizes)
        if self.segment <= self._source.next and self.bits <= self._source.next_bit:
            return []
        hits = self._source.hits(first, bit, sizes, self.bits)
        self._keep()
        return hits

    def deadline(self, now_ns: int, octets: int, segments: int = 1, ecn_capable: bool = False) -> int | Fate:
        """Return when the next segments, of so many bytes on the wire altogether, arrive; or, as a
        :class:`Fate`, why they do not: QUEUE_FULL or AQM. ``marked`` is set where they are to be marked.

        A refusal of more than one segment is not a decision: nothing has changed, and the caller asks about
        each of them."""
        if now_ns >= self._change_ns:
            self._switch(now_ns)
        due = now_ns
        if self._queue is not None:
            due = self._queue.offer(now_ns, octets, segments, ecn_capable=ecn_capable)
            if isinstance(due, Fate):
                return due
            self.marked = self._queue.marked
        return self.arrival(due)

    def arrival(self, left_ns: int) -> int:
        """Return when segments arrive that leave the queue at a moment, or that meet no queue then, after
        :meth:`quiet` or :meth:`judge`."""
        due = left_ns + (self._delay_ns if self._path is None else self._path.at(left_ns))
        if due < self._last:
            return self._last
        self._last = due
        return due

    def corrupt_bit(self, segment: int, bits: int) -> int:
        """Return which of so many bits is wrong in the segment of this number (not relative to a call)."""
        return Stream(self._spec.seed, StreamNumber.CORRUPT_BIT).word(segment) * bits >> 64

    def state(self) -> tuple[int, ...]:
        """Return what another process needs to go on: :data:`STATE_WORDS` unsigned 64-bit words."""
        queue = self._queue_words if self._queue is None else self._queue.words()
        return (_LAYOUT, self.segment, self.bits, self._last, *queue, *self._drawn)

    def _switch(self, now_ns: int) -> None:
        """Apply the parameters of this moment."""
        spec = self._spec
        parameters, self._change_ns = parameters_at(spec, now_ns)
        self._begin_queue(parameters)
        path = (
            parameters.delay_ns, parameters.jitter_ns, parameters.jitter_correlation, parameters.distribution
        )  # fmt: skip
        if path != self._path_parameters:
            self._path_parameters = path
            self._delay_ns = parameters.delay_ns
            self._path = None
            if parameters.jitter_ns:
                self._path = PathDelay(Stream(spec.seed, StreamNumber.DELAY), parameters, spec.applied_ns)
        self._begin_processes(parameters)

    def _begin_queue(self, parameters: LineParameters) -> None:
        """Replace the queue. Segments that it has accepted keep their times."""
        if self._queue is not None:
            self._queue_words = self._queue.words()
        if self._replay is not None:
            parameters = replace(parameters, limit_bytes=0, limit_segments=0, codel=False)
        bottleneck: Bottleneck | None = None
        if self._trace is not None:
            bottleneck = Opportunities(self._trace, self._spec.applied_ns, self._queue_words)
        elif parameters.rate:
            bottleneck = Shaper(parameters.rate, self._queue_words)
        self.marked = False
        self.shaped = bottleneck is not None
        self._queue = None
        self.piece_octets = 0
        if bottleneck is not None:
            self._queue = LineQueue(bottleneck, parameters, self._queue_words)
            self.piece_octets = max(1, bottleneck.mean_rate * PIECE_NS // (8 * SECOND))

    def _begin_processes(self, parameters: LineParameters) -> None:
        """Let the processes of these parameters go on, or begin."""
        spec = self._spec
        origin, *drawn = self._drawn[1:]
        if self._replay is not None:
            if self._drawn[0] != spec.applied_ns:
                origin = self.segment
            self._source = Replay(self._replay, origin, self.segment)
            self._drawn = (spec.applied_ns, origin, *_NO_PROCESSES)
            return
        loss = Fate.LOSS if parameters.loss == spec.parameters.loss else Fate.SCHEDULE
        self._source = Processes(spec.seed, parameters, loss, self.segment, self.bits, drawn)
        self._keep()

    def _keep(self) -> None:
        if isinstance(self._source, Processes):
            self._drawn = _NO_REPLAY + self._source.words() + _SPARE
