"""A burst: frames read from one device, each in a slot of one preallocated arena."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from epaird.dataplane.frames import FRAME_MAX, HEADER, SHORTEST, objection

BURST_FRAMES: Final = 64
"""Most frames in a burst."""
BURST_BYTES: Final = 256 * 1024
"""A burst ends when the long frames in it exceed this: four super-frames fit a core's own cache."""

Objection = Callable[[memoryview, int, int], int | None]
"""Returns why a frame of an unusual length is refused: :func:`epaird.dataplane.frames.objection`."""

_CACHE_LINE: Final = 64
SLOT: Final = (FRAME_MAX // _CACHE_LINE + 2) * _CACHE_LINE
"""Size of a slot in bytes: more than any frame, so that a truncated one is recognised, and no multiple of
4096, or the heads of all slots would share one set of the cache."""

_ONE_IN_EACH_BYTE: Final = int.from_bytes(b"\1" * BURST_FRAMES)


class Burst:
    """The frames of the last read, until the next one."""

    __slots__ = (
        "_destinations",
        "_flags",
        "_gso_types",
        "_slots",
        "arena",
        "exhausted",
        "lengths",
        "verdicts",
    )

    def __init__(self) -> None:
        # A mapping, not a bytearray: a page costs nothing before the first frame that reaches it.
        self.arena = memoryview(mmap.mmap(-1, BURST_FRAMES * SLOT))
        self._slots = [self.arena[start : start + SLOT] for start in range(0, len(self.arena), SLOT)]
        self._destinations = self.arena[HEADER::SLOT]
        self._flags = self.arena[::SLOT]
        self._gso_types = self.arena[1::SLOT]
        self.lengths: list[int] = []
        """Bytes in slots 0, 1, ..., virtio_net_hdr included."""
        self.verdicts: dict[int, int] = {}
        """The reason why a frame was dropped, by slot, in the order of the decisions; frames without one
        are accepted. Empty for nearly every burst."""
        self.exhausted = False
        """True when the device had no more frames."""

    def read(
        self,
        read: Callable[[memoryview], int | None],
        limit: int,
        most: int,
        examine: Objection = objection,
        octets: int = BURST_BYTES,
    ) -> None:
        """Read up to ``most`` frames; ``examine`` decides about those above ``limit`` bytes, and about runts.

        The burst ends when these exceed ``octets`` bytes together. ``read`` fills a slot and returns how many
        bytes, or None when there is no frame: FileIO.readinto(), which costs 80 ns less than os.readv(), and
        400 ns less where that would raise an exception.
        Raises OSError when the device is gone; frames read before that stay in the burst."""
        self.exhausted = False
        if self.verdicts:
            self.verdicts = {}
        lengths: list[int] = []
        self.lengths = lengths
        add = lengths.append
        room = octets
        for slot in self._slots if most >= BURST_FRAMES else self._slots[:most]:
            length = read(slot)
            if length is None:
                self.exhausted = True
                return
            add(length)
            if SHORTEST <= length <= limit:
                continue
            reason = examine(slot, length, limit)
            if reason is not None:
                self.verdicts[len(lengths) - 1] = reason
            room -= length
            if room < 0:
                return

    def write(self, fd: int, slots: Sequence[int] | None = None) -> int:
        """Write the frames in these slots, or all, until the kernel refuses one; return how many it took.

        Only for bursts without a verdict."""
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

    def accepted(self) -> Sequence[int]:
        """Return the slots of the frames without a verdict."""
        slots = range(len(self.lengths))
        verdicts = self.verdicts
        return [slot for slot in slots if slot not in verdicts] if verdicts else slots

    def frames(self, slots: Iterable[int]) -> list[memoryview]:
        """Return the frames in these slots."""
        views, lengths = self._slots, self.lengths
        return [views[slot][: lengths[slot]] for slot in slots]

    def offloaded(self) -> bool:
        """Return whether one of the frames is a super-frame or has an unfinished checksum."""
        count = len(self.lengths)
        flags = int.from_bytes(self._flags[:count].tobytes())
        return bool(flags & _ONE_IN_EACH_BYTE) or any(self._gso_types[:count].tobytes())

    def superframes(self) -> bool:
        """Return whether one of the frames is a super-frame."""
        return any(self._gso_types[: len(self.lengths)].tobytes())

    def replace(self, first: int, frames: Sequence[bytes]) -> list[bytes]:
        """Put other frames into the slots from ``first`` on; return those that there is no slot for."""
        fitting = frames[: BURST_FRAMES - first]
        for slot, frame in zip(self._slots[first:], fitting, strict=False):
            slot[: len(frame)] = frame
        self.lengths[first:] = map(len, fitting)
        return list(frames[len(fitting) :])

    def is_multicast(self, slot: int) -> bool:
        """Return whether the frame in a slot is for a group."""
        return bool(self._slots[slot][HEADER] & 1)

    def hold(self, frame: memoryview, verdict: int) -> None:
        """Hold nothing but a copy of one frame, which is refused."""
        self._slots[0][: len(frame)] = frame
        self.lengths, self.verdicts = [len(frame)], {0: verdict}

    def compact(self) -> None:
        """Remove the frames that have a verdict."""
        self.keep(self.accepted())
        self.verdicts = {}

    def keep(self, slots: Sequence[int]) -> None:
        """Remove all frames but those in these slots, in ascending order."""
        views, lengths = self._slots, self.lengths
        for to, slot in enumerate(slots):
            if to != slot:
                length = lengths[slot]
                views[to][:length] = views[slot][:length]
        self.lengths = [lengths[slot] for slot in slots]

    def multicasts(self) -> int:
        """Return how many of the frames are for a group; only for bursts without a verdict."""
        heads = self._destinations[: len(self.lengths)].tobytes()
        return (int.from_bytes(heads) & _ONE_IN_EACH_BYTE).bit_count()


def frames_at_once(limit: int) -> int:
    """Return how many frames of up to ``limit`` bytes make a burst."""
    return max(1, min(BURST_FRAMES, BURST_BYTES // limit))
