"""A burst: frames read from one device, each in a slot of one preallocated arena."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from epaird.dataplane.frames import FRAME_MAX, HEADER, SHORTEST, objection

BURST_FRAMES: Final = 64
BURST_BYTES: Final = 256 * 1024
"""A burst ends behind the frame that reaches this: four super-frames stay in a core's own cache."""

_CACHE_LINE: Final = 64
SLOT: Final = (FRAME_MAX // _CACHE_LINE + 2) * _CACHE_LINE
"""Bytes.  More than any frame, so that one cut short shows; no multiple of 4096, or the heads of all
slots would share one set of the cache."""

_ONE_IN_EACH_BYTE: Final = int.from_bytes(b"\1" * BURST_FRAMES)


class Burst:
    """The frames read last, until the next are read.  ``lengths`` tells how many and how long they are."""

    __slots__ = ("_destinations", "_slots", "arena", "exhausted", "lengths", "refused", "refused_frame")

    def __init__(self) -> None:
        # A mapping, not a bytearray: its pages cost nothing until a frame that long has come.
        self.arena = memoryview(mmap.mmap(-1, BURST_FRAMES * SLOT))
        self._slots = [self.arena[start : start + SLOT] for start in range(0, len(self.arena), SLOT)]
        self._destinations = self.arena[HEADER::SLOT]
        self.lengths: list[int] = []
        """Bytes in slots 0, 1, ..., virtio_net_hdr included; 0 where a frame was refused."""
        self.refused: list[int] = []
        """Why frames were refused: RUNT, OVERSIZE."""
        self.refused_frame = self.arena[:0]
        """The last frame that was refused."""
        self.exhausted = False
        """There was no more to read."""

    def read(self, read: Callable[[memoryview], int | None], limit: int, most: int) -> None:
        """Read up to ``most`` frames.  A frame above ``limit`` bytes is looked at, and refused perhaps.

        ``read`` fills a slot and returns how many bytes, or None when there is nothing: FileIO.readinto(),
        which costs 80 ns less than os.readv(), and 400 ns less where an exception would say so.
        Raises OSError when the device is gone; what was read before stands."""
        self.exhausted = False
        self.refused = []
        lengths: list[int] = []
        self.lengths = lengths
        add = lengths.append
        room = BURST_BYTES
        for slot in self._slots if most >= BURST_FRAMES else self._slots[:most]:
            length = read(slot)
            if length is None:
                self.exhausted = True
                return
            if SHORTEST <= length <= limit:
                add(length)
                continue
            reason = objection(slot, length, limit)
            if reason is None:
                add(length)
            else:
                add(0)
                self.refused.append(reason)
                self.refused_frame = slot[:length]
            room -= length
            if room < 0:
                return

    def write(self, fd: int, slots: Sequence[int] | None = None) -> int:
        """Write the frames in these slots, or all, until one is refused; how many were not.

        Only for frames of which none was refused when they were read."""
        write, count = os.write, len(self.lengths if slots is None else slots)
        remaining: Iterator[tuple[memoryview, int]] = zip(self._slots, self.lengths, strict=False)
        if slots is not None:
            remaining = iter([(self._slots[slot], self.lengths[slot]) for slot in slots])
        try:
            for slot, length in remaining:
                write(fd, slot[:length])
        except OSError:
            return count - 1 - len(list(remaining))
        return count

    def frames(self) -> list[memoryview]:
        """The frames, without those refused."""
        return [slot[:length] for slot, length in zip(self._slots, self.lengths, strict=False) if length]

    def multicasts(self) -> int:
        """How many of the frames are for a group; only for a burst with none refused."""
        heads = self._destinations[: len(self.lengths)].tobytes()
        return (int.from_bytes(heads) & _ONE_IN_EACH_BYTE).bit_count()


def frames_at_once(limit: int) -> int:
    """How many frames of up to ``limit`` bytes make a burst."""
    return max(1, min(BURST_FRAMES, BURST_BYTES // limit))
