"""The memory file of a ring: its layout, its records, its creation.

:mod:`epaird.ipc.ring` explains how they are used. This module is imported by worker processes: it uses the
standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from epaird.ipc.counters import (
    COALESCED_DATAGRAMS,
    COALESCED_SUPERFRAMES,
    IBYTES,
    IERRORS,
    IMCASTS,
    IPACKETS,
    LATE_BUCKETS_MAX,
    PEER_DOWN,
    WRITE_ERROR,
)

_MAGIC: Final = int.from_bytes(b"\xe9epring\n", "little")
_VERSION: Final = 1
PAGE: Final = 4096
SLACK: Final = 20 << 20
"""Bytes of the data area beyond those that may be held. Frames are read while 8 MB are contiguous, and fewer
than that may be left over at the end of the area."""
OCTETS_PER_RECORD: Final = 128
"""Most bytes of the buffer for each record of the table, whose size is a power of two."""
_HEADER: Final = struct.Struct("=5Q")
"""Magic, version, records, bytes of data, a random number that is the ring's identity."""
_NUMBER: Final = struct.Struct("=Q")
LOG_ENTRIES: Final = 1 << 16
"""Decisions that the log holds: the last ones."""
UNCOMMITTED_MAX: Final = 256
"""Records that are released with one commit at most: what a process that was killed had not committed."""
STATE_MAX: Final = 1 << 62
"""Above every count, place and time in a state: larger ones are not of a line's making."""
COUNT_MAX: Final = 1 << 63
"""Above every counter of a receiver: what a worker finds there is not above STATE_MAX."""
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL

RECORD: Final = struct.Struct("=QQIIIIQQQQ")
"""Deadline (ns), offset, length, segments, frames, flags, arrival (ns), octets without virtio_net_hdr, offset
from which on the data must stay, slot of the ledger of the receiver's queue that it is for."""
KEEP: Final = 6
"""Word of a record that has the offset from which on the data must stay."""
MULTICAST: Final = 1
"""Flag of a record: its frames are for a group."""
JOINED: Final = 2
"""Flag of a record: its frames are datagrams that the worker has joined."""

# Places in the file, in pages.
STATE: Final = 1
INTAKE: Final = 2
RELEASE: Final = 4
LOG: Final = 6
TABLE: Final = LOG + LOG_ENTRIES * 16 // PAGE
# Words of the state's first page, each in a cache line of its own.
INTAKE_INDEX: Final = 0
RELEASE_INDEX: Final = 8
DIFFERENCE: Final = 16

BIAS: Final = 1 << 62
OTHER_WRITES: Final = 1 << 63
"""Bit of the difference: something else is being written to the receiver, and no record is released."""

# Words of the intake's state.
HEAD: Final = 0
DATA: Final = 1
LAST: Final = 2
LOGGED: Final = 3
FRAMES: Final = 4
SEGMENTS: Final = 5
OCTETS: Final = 6
ADDED: Final = 7
DECIDED: Final = 8
COUNTERS: Final = 16
"""First of the words that have the line's counters, in the order of its slot."""
DECISIONS: Final = 64
"""First of the words of the decisions."""
DECISIONS_MAX: Final = 64
INTAKE_WORDS: Final = DECISIONS + DECISIONS_MAX
"""Words of the intake's state."""
DECISIONS_TIMES: Final = slice(DECISIONS + 3, DECISIONS + 4 + 22)
"""Words of the decisions that depend on what is held: the last deadline, and the queue before the rate."""

# Words of the release's state. Words 1 to 3 correspond to FRAMES, SEGMENTS and OCTETS.
TAIL: Final = 0
OUT: Final = 1
DELIVERED: Final = 4
LATE_SUM: Final = 5
REFUSED: Final = 6
"""Segments that the receiver refused, or that were discarded."""
COUNTED: Final = 8
REPLACED: Final = 16
"""1 + the number of the last record that was replaced; its new fields are the words behind."""
LATE: Final = 32
RELEASE_WORDS: Final = LATE + LATE_BUCKETS_MAX
"""Words of the release's state."""

RECEIVER: Final = (
    IPACKETS, IBYTES, IMCASTS, COALESCED_SUPERFRAMES, COALESCED_DATAGRAMS, IERRORS + PEER_DOWN,
    IERRORS + WRITE_ERROR,
)  # fmt: skip
"""The receiver's counters that a commit of the release has, in the order of the words from ``COUNTED`` on."""


HELD: Final = (0, 1, 2)
"""Places of frames, segments and bytes behind FRAMES, OUT and a slot's HELD_FRAMES."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a ring holds."""

    frames: int = 0
    """Frames: datagrams that were joined count singly."""
    segments: int = 0
    """Segments of these."""
    octets: int = 0
    """Their bytes."""


@dataclass(slots=True)
class Released:
    """Records that are gone from a ring."""

    records: int = 0
    """Their number: that of the writes."""
    frames: int = 0
    """Frames that were delivered."""
    segments: int = 0
    """Segments of these."""
    octets: int = 0
    """Bytes of these."""
    multicasts: int = 0
    """Frames of these that are for a group."""
    superframes: int = 0
    """Super-frames of the worker's making among the records."""
    datagrams: int = 0
    """Datagrams in these."""

    def add(self, record: tuple[int, ...]) -> None:
        """Add a record that was delivered."""
        _, _, _, segments, frames, flags, _, octets, _, _ = record
        self.records += 1
        self.frames += frames
        self.segments += segments
        self.octets += octets
        if flags:
            self.flagged(flags, frames)

    def bound(self, intake: array[int], release: array[int]) -> None:
        """Lower what exceeds what these states hold: another process has written to a record."""
        frames, segments = intake[FRAMES] - release[OUT], intake[SEGMENTS] - release[OUT + 1]
        octets = intake[OCTETS] - release[OUT + 2]
        if self.frames <= frames and self.segments <= segments and self.octets <= octets:
            return
        self.frames, self.segments = min(self.frames, frames), min(self.segments, segments)
        self.octets = min(self.octets, octets)
        self.multicasts, self.datagrams = min(self.multicasts, self.frames), min(self.datagrams, self.frames)
        self.superframes = min(self.superframes, self.datagrams)

    def flagged(self, flags: int, frames: int) -> None:
        """Add what the flags of a record mean."""
        if flags & MULTICAST:
            self.multicasts += frames
        if flags & JOINED:
            self.superframes += 1
            self.datagrams += frames


def create(name: str, buffer: int) -> int:
    """Return the descriptor of a new ring for ``buffer`` bytes of frames; ``name`` is shown in /proc."""
    octets = -(-(max(buffer, 1) + SLACK) // PAGE) * PAGE
    records = _records(octets)
    fd = os.memfd_create(f"epaird-ring-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, TABLE * PAGE + records * RECORD.size + octets)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        _begin(fd, records, octets)
    except BaseException:
        os.close(fd)
        raise
    return fd


def copies(page: int, words: int) -> tuple[slice, slice]:
    """Return where the two copies of a state are in the file."""
    first, second = page * PAGE, (page + 1) * PAGE
    return slice(first, first + words * 8), slice(second, second + words * 8)


def restart(fd: int) -> None:
    """Make a ring, whatever is in it, one that was never used. Raises ValueError where it can be none."""
    records, octets = check(fd)
    with writing(fd) as write:
        write(bytes((LOG - STATE) * PAGE), STATE * PAGE)
    _begin(fd, records, octets)


def check(fd: int) -> tuple[int, int]:
    """Return the records and the bytes of data of the only ring that a file can have, whatever is in it.

    Raises ValueError where it can have none."""
    try:
        # Not by fstat(), which glibc turns into a system call that takes paths: a worker's sandbox denies it.
        size = os.lseek(fd, 0, os.SEEK_END)
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as error:
        raise ValueError(f"not a ring: {error}") from error
    if seals & _SEALS != _SEALS or seals & fcntl.F_SEAL_WRITE:
        raise ValueError("not a ring: its size is not sealed")
    for records in (1 << power for power in range(64)):
        octets = size - TABLE * PAGE - records * RECORD.size
        if octets >= SLACK and records == _records(octets):
            return records, octets
    raise ValueError("not a ring: no ring has its size")


def _begin(fd: int, records: int, octets: int) -> None:
    """Write the header and the state of a ring that was never used."""
    identity = int.from_bytes(os.urandom(8))
    with writing(fd) as write:
        write(_HEADER.pack(_MAGIC, _VERSION, records, octets, identity), 0)
        # The first record is not number 0, because others may be put before it.
        write(_NUMBER.pack(records), INTAKE * PAGE + HEAD * 8)
        write(_NUMBER.pack(records), RELEASE * PAGE + TAIL * 8)
        write(_NUMBER.pack(BIAS - records), STATE * PAGE + DIFFERENCE * 8)


@contextlib.contextmanager
def writing(fd: int) -> Iterator[Callable[[bytes, int], None]]:
    """Provide a function that stores bytes at an offset of a ring's header and state.

    They are mapped for that, because the sandbox of a worker permits it to write to no file. Where they
    cannot be mapped, for want of memory or descriptors, they are written."""
    try:
        memory = mmap.mmap(fd, LOG * PAGE)
    except OSError:

        def write(octets: bytes, offset: int) -> None:
            os.pwrite(fd, octets, offset)

        yield write
        return

    def store(octets: bytes, offset: int) -> None:
        memory[offset : offset + len(octets)] = octets

    with memory:
        yield store


def holds(fd: int, buffer: int) -> bool:
    """Return whether a ring is large enough for ``buffer`` bytes. Raises ValueError where it is none."""
    _, octets = sizes(fd)
    return octets >= buffer + SLACK


def same(fd: int, other: int) -> bool:
    """Return whether two descriptors are of one ring."""
    return os.pread(fd, _HEADER.size, 0) == os.pread(other, _HEADER.size, 0)


def sizes(fd: int) -> tuple[int, int]:
    """Return the records and the bytes of data of a ring; raises ValueError where it is none.

    A worker can write to the header. The size of the file is sealed, and only one header is right for it."""
    found = check(fd)
    header = os.pread(fd, _HEADER.size, 0)
    magic, version, *sizes, _ = _HEADER.unpack(header)
    if (magic, version) != (_MAGIC, _VERSION):
        raise ValueError("not a ring of this version")
    if (*sizes,) != found:
        raise ValueError("the sizes of a ring contradict each other")
    return found


def is_sound(intake: array[int], release: array[int], records: int, octets: int) -> bool:
    """Return whether a line may have left these states in a ring of so many records and bytes of data."""
    # The decisions' words are judged where they are used, and the sum of the histogram may be any.
    state = intake[:ADDED] + intake[ADDED + 1 : DECISIONS] + release[:LATE_SUM]
    state += release[LATE_SUM + 1 : COUNTED] + release[LATE : LATE + LATE_BUCKETS_MAX]
    counts = intake[ADDED : ADDED + 1] + release[COUNTED : COUNTED + len(RECEIVER)]
    held = [intake[FRAMES + number] - release[OUT + number] for number in HELD]
    waiting = intake[HEAD] - release[TAIL]
    return (
        max(state) < STATE_MAX
        and max(counts) < COUNT_MAX
        and 0 <= waiting <= records
        and intake[DATA] <= octets
        and min(held) >= 0
        and (waiting > 0 or not any(held))
    )


def _records(octets: int) -> int:
    """Return the records of a ring with so many bytes of data."""
    return 1 << (max(octets - SLACK, SLACK) // OCTETS_PER_RECORD - 1).bit_length()


def logged(fd: int) -> list[tuple[int, int]]:
    """Return the decisions in the log of a ring, oldest first: the number of a segment and its fate.

    A worker may have the ring and write to it; what it overwrites during the call is left out."""
    before = _count_of(fd)
    words = struct.unpack(f"={LOG_ENTRIES * 2}Q", os.pread(fd, LOG_ENTRIES * 16, LOG * PAGE))
    first = max(0, before - LOG_ENTRIES, _count_of(fd) - LOG_ENTRIES)
    places = (number % LOG_ENTRIES * 2 for number in range(first, before))
    return [(words[place], words[place + 1]) for place in places]


def _count_of(fd: int) -> int:
    """Return how many decisions were ever logged."""
    (index,) = _NUMBER.unpack(os.pread(fd, 8, STATE * PAGE + INTAKE_INDEX * 8))
    (count,) = _NUMBER.unpack(os.pread(fd, 8, (INTAKE + (index & 1)) * PAGE + LOGGED * 8))
    return int(count)
