"""The ledger: the counters of every interface and worker, in memory that all processes share.

One memory file holds a header and a table of slots, each SLOT_WORDS unsigned 64-bit words. The control
plane hands slots out; a slot has exactly one writer at any time, the worker that owns the interface queue
(or that is the worker) it describes, and any number of readers. An aligned 64-bit store is one instruction
on the machines that Linux runs on, so a reader never sees half a number and no lock is needed. A slot
outlives its writer: when a worker dies, its replacement continues to count where it stopped, and counters
never go back. Two words of an interface's slot are the control plane's: MIGRATING and DOWN.

The header names the layout, the words and the reasons, so that a process of another version can read the
ledger:

- A ledger of the same layout version is used as it is. Words are only appended, so each process uses the
  words that it knows.
- A ledger of any other layout version, of epaird 0.1.0 which wrote no header, or whose size is not sealed, is
  copied by name, slot by slot, each once its last writer has detached (:meth:`Table.migrate`). Until then
  its readings come from the old slot (:mod:`epaird.ipc.oldledger`).
- A worker that a control plane of another version spawns counts in the words of that version's layout
  (:class:`TranslatedWords`).

This module is imported by worker processes: it uses the standard library only.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, cast

from epaird.ipc import counters
from epaird.ipc.counters import (
    LATE_BUCKETS_MAX,
    LAYOUT,
    LINE_REASONS,
    MIGRATING,
    REASONS,
    SLOT_WORDS,
    Counter,
)

SLOT_BYTES: Final = SLOT_WORDS * 8

Words = memoryview
"""A slot: ``SLOT_WORDS`` unsigned 64-bit integers, read and stored by index."""
WORD_MAX: Final = (1 << 64) - 1
"""The largest number of a word."""

_MAGIC: Final = b"\xe9epaird\n"
_PREFIX: Final = struct.Struct("<8sQ")
"""The magic and the length in bytes of the JSON document that follows it."""
HEADER_BYTES: Final = 4096
"""Bytes before the first slot in the current layout: one page, so that slots are aligned to cache lines."""
HEADER_MAX: Final = 1 << 20
"""Bytes of the largest header of another layout."""
SLOT_WORDS_MAX: Final = 4096
"""Words of the largest slot of another layout."""
_UNREADABLE: Final = (
    AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError, struct.error
)  # fmt: skip
"""What a header that a worker has written can cause."""
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


@dataclass(frozen=True, slots=True)
class Layout:
    """The places of the counters in a ledger."""

    version: int
    """The layout version."""
    header_bytes: int
    """Bytes before the first slot."""
    slot_words: int
    """Words in a slot."""
    reasons: tuple[str, ...]
    """Names of the reasons, in the order of their words."""
    interface: Mapping[str, int]
    """The word of each counter of an interface, by name; the first one where there is one per reason."""
    worker: Mapping[str, int]
    """The word of each counter of a worker, by name."""
    line: Mapping[str, int] = field(default_factory=dict)
    """The word of each counter of a line, by name; epaird 0.4.0 and older have none."""
    line_reasons: tuple[str, ...] = ()
    """Names of the reasons of lines, in the order of their words."""

    def encode(self) -> bytes:
        """Return the header."""
        document = json.dumps(
            {
                "layout": self.version,
                "header_bytes": self.header_bytes,
                "slot_words": self.slot_words,
                "reasons": self.reasons,
                "interface": dict(self.interface),
                "worker": dict(self.worker),
                "line": dict(self.line),
                "line_reasons": self.line_reasons,
            }
        ).encode()
        return (_PREFIX.pack(_MAGIC, len(document)) + document).ljust(self.header_bytes, b"\0")

    @classmethod
    def decode(cls, data: bytes) -> Layout:
        """Return the layout that the beginning of a ledger describes; raises ValueError.

        Every process that counts can write to the ledger, its header included."""
        if data[: len(_MAGIC)] != _MAGIC:
            return LAYOUT_1
        try:
            _, length = _PREFIX.unpack_from(data)
            document = json.loads(data[_PREFIX.size : _PREFIX.size + length])
            found = cls(
                int(document["layout"]),
                int(document["header_bytes"]),
                int(document["slot_words"]),
                tuple(map(str, document["reasons"])),
                {str(name): int(word) for name, word in document["interface"].items()},
                {str(name): int(word) for name, word in document["worker"].items()},
                {str(name): int(word) for name, word in document.get("line", {}).items()},
                tuple(map(str, document.get("line_reasons", ()))),
            )
        except _UNREADABLE as error:
            raise ValueError(f"not the header of a ledger: {error}") from error
        catalogues = counters.INTERFACE, counters.WORKER, counters.IMPAIRMENT
        words = {word for catalogue in catalogues for word in found.words_of(catalogue).values()}
        if not 0 <= found.header_bytes <= HEADER_MAX or not 1 <= found.slot_words <= SLOT_WORDS_MAX:
            raise ValueError("the header of a ledger has sizes that no version has")
        if not all(0 <= word < found.slot_words for word in words):
            raise ValueError("the header of a ledger contradicts itself")
        return found

    def words_of(self, catalogue: Sequence[Counter]) -> dict[int, int]:
        """Return the word of this layout for each word of a catalogue that it has."""
        if catalogue is counters.IMPAIRMENT:
            return words_of(catalogue, self.line, self.line_reasons, LINE_REASONS)
        return words_of(
            catalogue, self.worker if catalogue is counters.WORKER else self.interface, self.reasons
        )


def _in_slot(catalogue: Sequence[Counter]) -> dict[str, int]:
    return {each.name: each.word for each in catalogue if each.word < SLOT_WORDS}


CURRENT: Final = Layout(
    LAYOUT,
    HEADER_BYTES,
    SLOT_WORDS,
    REASONS,
    _in_slot(counters.INTERFACE),
    _in_slot(counters.WORKER),
    _in_slot(counters.IMPAIRMENT),
    LINE_REASONS,
)
"""The layout of the catalogue."""

LAYOUT_1: Final = Layout(
    version=1,
    header_bytes=0,
    slot_words=32,
    reasons=("peer_down", "oversize", "runt", "write_error", "worker_lost", "family"),
    interface={
        "opackets": 0, "obytes": 1, "omcasts": 2, "ipackets": 3, "ibytes": 4, "imcasts": 5,
        "in_flight": 6, "listed": 7, "oactive": 8,
        "coalesced_datagrams": 9, "coalesced_superframes": 10, "joining": 11,
        "oerrors": 12, "ierrors": 18, "held_bytes": 24, "too_big": 25,
    },
    worker={"heartbeat_ns": 0, "cpu_ns": 1, "queue_frames": 2, "drain_list": 3, "oactive": 4},
)  # fmt: skip
"""The layout of epaird 0.1.0, which wrote no header."""


class Older(Protocol):
    """A ledger that another one supersedes."""

    @property
    def fd(self) -> int:
        """Its descriptor."""

    def converted(self, index: int) -> list[int]:
        """Return the words of an interface's slot in the current layout, copied by name."""

    def cpu_ns(self, index: int) -> int:
        """Return the processor time of a worker in nanoseconds."""


def is_memory_file(fd: int) -> bool:
    """Return whether a descriptor from another process is that of a memory file, as a ledger is."""
    try:
        fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        return False
    return True


def is_sealed(fd: int) -> bool:
    """Return whether no process can change the size of a ledger's memory file."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS == _SEALS
    except OSError:  # not a memory file
        return False


def is_constant(fd: int) -> bool:
    """Return whether no process can change a memory file, as that of a trace or a replay."""
    try:
        return bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE) and is_sealed(fd)
    except OSError:  # not a memory file
        return False


class Table:
    """The shared table. The control plane creates it; a worker maps it by its file descriptor."""

    def __init__(self, fd: int) -> None:
        """Map the table behind ``fd``, which the caller has to close.

        Raises ValueError when it is no ledger."""
        self.fd = fd
        self.older: Older | None = None
        """A ledger from which slots are still to be copied."""
        # Not by fstat(), which glibc turns into a system call that takes paths: a worker's sandbox denies it.
        self._map = mmap.mmap(fd, os.lseek(fd, 0, os.SEEK_END))
        self.layout = _layout_of(self._map)
        if (len(self._map) - self.layout.header_bytes) % 8:
            raise ValueError("a ledger consists of whole words")
        self._words = memoryview(self._map)[self.layout.header_bytes :].cast("Q")
        if self.layout.version == LAYOUT and self.layout != CURRENT:
            self._name_words()

    @classmethod
    def create(cls, slots: int) -> Table:
        """Create a table of ``slots`` zeroed slots; memory is used only for those that are written to."""
        fd = os.memfd_create("epaird-ledger", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, HEADER_BYTES + slots * SLOT_BYTES)
        # A worker that truncated the file would end every other process that reads the mapping: SIGBUS.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        os.pwrite(fd, CURRENT.encode(), 0)
        return cls(fd)

    @property
    def slots(self) -> int:
        """Number of slots of the table."""
        return len(self._words) // self.layout.slot_words

    @property
    def usable(self) -> bool:
        """True when counters can be kept in this table as they are."""
        return self.layout.version == LAYOUT

    def slot(self, index: int) -> Words:
        """Return the words of an interface's slot, live; raises IndexError when there is no such slot."""
        return self._translated(index, counters.INTERFACE)

    def worker_slot(self, index: int) -> Words:
        """Return the words of a worker's slot, live; raises IndexError when there is no such slot."""
        return self._translated(index, counters.WORKER)

    def line_slot(self, index: int) -> Words:
        """Return the words of a line's slot, live; raises IndexError when there is no such slot."""
        return self._translated(index, counters.IMPAIRMENT)

    def _slot(self, index: int) -> memoryview:
        if not 0 <= index < self.slots:
            raise IndexError(f"slot {index} of {self.slots}")
        size = self.layout.slot_words
        return self._words[index * size : (index + 1) * size]

    def _translated(self, index: int, catalogue: Sequence[Counter]) -> Words:
        words = self._slot(index)
        if self.usable:
            return words
        # A memoryview to those that count, which index it by one word at a time.
        return cast(Words, TranslatedWords(words, self.layout.words_of(catalogue)))

    def clear(self, index: int) -> None:
        """Zero a slot before it is handed to its next owner."""
        self.slot(index)[:] = memoryview(bytes(SLOT_BYTES)).cast("Q")

    def read(self, index: int) -> list[int]:
        """Return the words of an interface's slot as they are now, in this layout, wherever they are kept."""
        words = self.slot(index)
        if self.older is not None and words[MIGRATING]:
            return self.older.converted(index)
        return words.tolist()

    def supersede(self, older: Older, slots: Collection[int]) -> None:
        """Replace another ledger; the counters in these slots are still to be copied from it."""
        self.older = older
        for index in slots:
            self.slot(index)[MIGRATING] = 1

    def migrate(self, index: int) -> None:
        """Copy an interface's counters from the older ledger, unless that was done before.

        To be called once the last process that counted in the old slot has detached or died."""
        words = self.slot(index)
        if words[MIGRATING]:
            if self.older is not None:
                words[:MIGRATING] = memoryview(_packed(self.older.converted(index)[:MIGRATING])).cast("Q")
            # Last, so that a control plane killed here finds the slot complete or copies it again.
            words[MIGRATING] = 0

    def migrate_worker(self, index: int) -> None:
        """Copy the processor time of a worker from the older ledger."""
        words = self.slot(index)
        if words[MIGRATING]:
            if self.older is not None:
                words[counters.CPU_NS] = self.older.cpu_ns(index)
            words[MIGRATING] = 0  # last, as in migrate()

    def _name_words(self) -> None:
        """Add the names that this version knows to the header."""
        merged = Layout(
            LAYOUT,
            self.layout.header_bytes,
            self.layout.slot_words,
            max(self.layout.reasons, REASONS, key=len),
            {**self.layout.interface, **CURRENT.interface},
            {**self.layout.worker, **CURRENT.worker},
            {**self.layout.line, **CURRENT.line},
            max(self.layout.line_reasons, LINE_REASONS, key=len),
        )
        header = merged.encode()
        if len(header) > self.layout.header_bytes:
            raise ValueError("the header of a ledger is too long")
        self._map[: len(header)] = header
        self.layout = merged


class TranslatedWords:
    """A slot of a ledger of another layout, indexed by the words of this one.

    A worker gets one when a control plane of another version spawns it, which happens between the moment
    when the files of epaird are replaced and the upgrade. Counters that the other layout lacks
    are dropped. It is slower than a memoryview, and short-lived."""

    def __init__(self, words: memoryview, places: Mapping[int, int]) -> None:
        self._words = words
        self._places = places

    def __getitem__(self, word: int) -> int:
        place = self._places.get(word)
        return 0 if place is None else int(self._words[place])

    def __setitem__(self, word: int, value: int) -> None:
        place = self._places.get(word)
        if place is not None:
            self._words[place] = value


def words_of(
    catalogue: Sequence[Counter],
    places: Mapping[str, int],
    reasons: Sequence[str],
    known: Sequence[str] = REASONS,
) -> dict[int, int]:
    """Return the word of another layout for each word of this one that it has.

    ``reasons`` are that layout's, ``known`` those of this one."""
    found: dict[int, int] = {}
    for each in catalogue:
        first = places.get(each.name)
        if first is None or each.word >= SLOT_WORDS:
            continue
        if each.by_reason:
            found |= {
                each.word + known.index(reason): first + number
                for number, reason in enumerate(reasons)
                if reason in known
            }
        elif each.histogram:
            found |= {each.word + number: first + number for number in range(LATE_BUCKETS_MAX)}
        else:
            found[each.word] = first
    return found


def _layout_of(data: mmap.mmap) -> Layout:
    layout = Layout.decode(data[:HEADER_BYTES])
    if layout.version == LAYOUT and (layout.slot_words, layout.header_bytes) != (SLOT_WORDS, HEADER_BYTES):
        raise ValueError("a ledger of the current layout has other sizes")
    return layout


def _packed(words: Sequence[int]) -> bytes:
    return struct.pack(f"@{len(words)}Q", *words)
