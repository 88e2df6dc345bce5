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
from epaird.dataplane.impair.recurring import Recurring
from epaird.dataplane.impair.wire import ON_WIRE, PADDED
from epaird.dataplane.pipeline import Pipeline
from epaird.dataplane.port import Port
from epaird.ipc.ring import Ring
from epaird.ipc.ringfile import MULTICAST

LONG: Final = 4096
"""Bytes of a long frame."""
AT_ONCE: Final = 8
"""Frames that make a burst."""
FEW: Final = SEGMENTS_MIN - 1
"""Short frames in a burst that is read into the ring: more may be joined."""

Frame = tuple[int, int, int, int]
"""Offset, length, segments (0 where they are not known), 1 if it is for a group."""


class Direct:
    """Reads frames into the ring of one line."""

    __slots__ = ("_intake", "_pipeline", "_recurring", "_ring", "_wire", "frames")

    def __init__(self, ring: Ring, intake: Intake, pipeline: Pipeline) -> None:
        self._ring = ring
        self._intake = intake
        self._pipeline = pipeline
        self._recurring = Recurring()
        self.frames: list[Frame] = []
        """The frames that were read last, one after the other in the ring."""
        self._wire = 0
        """Their bytes on the wire altogether; below 0 where that is not known."""

    def read(self, source: Port) -> bool:
        """Read frames; True when there were no more."""
        self.frames, self._wire = [], -1
        try:
            return self._read(source)
        except OSError:
            self._pipeline.poller.gone(source)
            return True

    def _read(self, source: Port) -> bool:
        data, offset, add = self._ring.data, self._ring.write, self.frames.append
        read, limit, division = source.read, source.limit, self._recurring.division
        exhausted = False
        wire = 0
        for _ in range(AT_ONCE if source.receiver.offload else 1):
            view = data[offset : offset + SLOT]
            length = read(view)
            if length is None:
                exhausted = True
                break
            segments = 0
            if SHORTEST <= length <= limit:
                if not view[1]:
                    segments = 1
                    wire += (max(PADDED, length)) + ON_WIRE
            else:
                if length < SLOT:
                    segments, octets = division(view, length, limit)
                    wire += octets
                if not segments:
                    reason = source.examine(view, length, limit)
                    if reason is not None:
                        self._pipeline.refuse(source, view[:length], reason)
                        continue
                    self._recurring.learn(view, length, limit)
            add((offset, length, segments, view[HEADER] & MULTICAST))
            offset += length
        self._wire = wire
        return exhausted

    def take(self, now_ns: int) -> tuple[int, int]:
        """Hold what was read; return its bytes without virtio_net_hdr, and how many frames are for a
        group."""
        intake, frames, wire = self._intake, self.frames, self._wire
        _, lengths, parts, groups = zip(*frames, strict=True)
        octets, segments = sum(lengths), sum(parts)
        self._ring.write += octets
        if (
            intake.whole
            and wire >= 0
            and 0 not in parts
            and intake.decisions.quiet(now_ns, segments, 8 * wire)
        ):
            intake.pass_on(frames, now_ns, segments)
        else:
            for offset, length, _, _ in frames:
                intake.admit(offset, length, now_ns)
        return octets - HEADER * len(frames), sum(groups)

    @property
    def again(self) -> bool:
        """True where the next burst is to be read like this, too."""
        return len(self.frames) <= FEW or self.frames[-1][1] > LONG
