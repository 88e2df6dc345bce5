"""Reading straight into the ring, for bursts of few frames and for long ones.

The copy of a long frame costs more than all the rest, and so do the worker's burst and its coalescing where a
burst is one frame. What nothing happens to is put into the ring as it was read; everything else is
:meth:`epaird.dataplane.impair.intake.Intake.admit`'s.
"""

from __future__ import annotations

from typing import Final

from epaird.dataplane.burst import SLOT
from epaird.dataplane.coalesce import SEGMENTS_MIN
from epaird.dataplane.frames import HEADER, SHORTEST
from epaird.dataplane.impair.intake import Intake
from epaird.dataplane.impair.recurring import UNKNOWN, Recurring
from epaird.dataplane.impair.wire import OVERHEAD
from epaird.dataplane.impair.wire import SHORTEST as SHORTEST_ON_WIRE
from epaird.dataplane.pipeline import Pipeline
from epaird.dataplane.port import Port
from epaird.ipc.ring import Ring

LONG: Final = 4096
"""Bytes of a long frame."""
AT_ONCE: Final = 8
"""Frames that make a burst."""
FEW: Final = SEGMENTS_MIN - 1
"""Short frames in a burst that is read into the ring: more may be joined."""


class Direct:
    """Reads frames into the ring of one line."""

    __slots__ = ("_intake", "_pipeline", "_recurring", "_ring", "_sizes", "lengths", "multicasts", "octets")

    def __init__(self, ring: Ring, intake: Intake, pipeline: Pipeline) -> None:
        self._ring = ring
        self._intake = intake
        self._pipeline = pipeline
        self._recurring = Recurring()
        self._sizes: list[tuple[int, int]] = []
        """The segments of each frame that was read last, and their bytes on the wire; 0 where they are not
        known."""
        self.lengths: list[int] = []
        """Bytes of each of these frames; they lie one after the other."""
        self.octets = 0
        """Their bytes, without virtio_net_hdr."""
        self.multicasts = 0
        """How many of them are for a group."""

    def read(self, source: Port) -> bool:
        """Read frames; True when there were no more."""
        self.lengths, self._sizes = [], []
        try:
            return self._read(source)
        except OSError:
            self._pipeline.poller.gone(source)
            return True

    def _read(self, source: Port) -> bool:
        data, offset, lengths, sizes = self._ring.data, self._ring.write, self.lengths, self._sizes
        read, limit, division = source.read, source.limit, self._recurring.division
        for _ in range(AT_ONCE if source.receiver.offload else 1):
            view = data[offset : offset + SLOT]
            length = read(view)
            if length is None:
                return True
            size = UNKNOWN
            if SHORTEST <= length <= limit:
                if not view[1]:
                    size = 1, max(length - HEADER, SHORTEST_ON_WIRE) + OVERHEAD
            else:
                if length < SLOT:
                    size = division(view, length, limit)
                if size is UNKNOWN:
                    reason = source.examine(view, length, limit)
                    if reason is not None:
                        self._pipeline.refuse(source, view[:length], reason)
                        continue
                    self._recurring.learn(view, length, limit)
            lengths.append(length)
            sizes.append(size)
            offset += length
        return False

    def take(self, now_ns: int) -> None:
        """Hold what was read."""
        ring, intake = self._ring, self._intake
        data, offset = ring.data, ring.write
        segments = wire = octets = multicasts = 0
        known = intake.whole
        frames = []
        for length, size in zip(self.lengths, self._sizes, strict=True):
            each, each_wire = size
            group = data[offset + HEADER] & 1
            octets += length - HEADER
            multicasts += group
            segments += each
            wire += each_wire
            known = known and each > 0
            frames.append((offset, length, each, group))
            offset += length
        ring.write = offset
        self.octets, self.multicasts = octets, multicasts
        if known and intake.decisions.quiet(now_ns, segments, 8 * wire):
            intake.pass_on(frames, now_ns, segments)
        else:
            for offset, length, _, _ in frames:
                intake.admit(offset, length, now_ns)

    @property
    def again(self) -> bool:
        """True where the next burst is to be read like this, too."""
        return len(self.lengths) <= FEW or self.lengths[-1] > LONG
