"""The shared table, and ledgers of other layouts."""

from __future__ import annotations

import fcntl
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from epaird.ipc import counters, ledger
from epaird.ipc.counters import (
    CPU_NS,
    IERRORS,
    LINE_REASONS,
    MIGRATING,
    OERRORS,
    REASONS,
    SLOT_WORDS,
)
from epaird.ipc.ledger import CURRENT, LAYOUT_1, Layout, Table, is_constant, is_sealed
from tests.ipc.ledgers import ledger_file


@pytest.fixture
def table() -> Iterator[Table]:
    table = Table.create(4)
    yield table
    os.close(table.fd)


def test_all_mappings_of_a_ledger_share_its_contents(table: Table) -> None:
    other = Table(table.fd)
    table.slot(2)[5] = 2**64 - 1
    assert other.slots == 4
    assert other.slot(2)[5] == 2**64 - 1
    assert sum(sum(other.slot(slot)) for slot in (0, 1, 3)) == 0


@pytest.mark.parametrize("slot", [-1, 4])
def test_there_is_no_slot_outside(table: Table, slot: int) -> None:
    with pytest.raises(IndexError, match=f"slot {slot} of 4"):
        table.slot(slot)


def test_the_ledger_is_not_inherited(table: Table) -> None:
    assert not os.get_inheritable(table.fd)


# Ledgers of other layouts.


@pytest.fixture
def old() -> Iterator[Table]:
    """A ledger of epaird 0.1.0, whose interface in slot 1 has counted something in each word."""
    table = Table(ledger_file(LAYOUT_1, 4))
    for word in range(LAYOUT_1.slot_words):
        table._slot(1)[word] = 1000 + word
    yield table
    os.close(table.fd)


def test_a_header_names_the_layout_and_every_word(table: Table) -> None:
    assert Layout.decode(os.pread(table.fd, 4096, 0)) == CURRENT
    assert Table(table.fd).layout == CURRENT
    assert table.usable
    assert max((*CURRENT.interface.values(), *CURRENT.worker.values())) < SLOT_WORDS


def test_a_ledger_without_a_header_is_one_of_0_1_0(old: Table) -> None:
    assert old.layout == LAYOUT_1
    assert (old.slots, old.usable) == (4, False)


def test_the_words_of_0_1_0_are_where_it_wrote_them() -> None:
    words = (
        *("opackets", "obytes", "omcasts", "ipackets", "ibytes", "imcasts", "in_flight", "listed", "oactive"),
        *("coalesced_datagrams", "coalesced_superframes", "joining"),
        *("oerrors",) * 6,
        *("ierrors",) * 6,
        *("held_bytes", "too_big"),
    )
    assert LAYOUT_1.interface == {name: words.index(name) for name in words}
    assert list(LAYOUT_1.worker) == ["heartbeat_ns", "cpu_ns", "queue_frames", "drain_list", "oactive"]
    assert list(LAYOUT_1.worker.values()) == [0, 1, 2, 3, 4]
    assert (LAYOUT_1.version, LAYOUT_1.header_bytes, LAYOUT_1.slot_words) == (1, 0, 32)


@pytest.mark.parametrize("header_bytes", [0, 2, 4096, 4098])
@pytest.mark.parametrize("more", [0, 1, 4, 7])
def test_a_ledger_consists_of_whole_words(header_bytes: int, more: int) -> None:
    """Behind a header of any length."""
    fd = ledger_file(Layout(9, header_bytes, 8, (), {}, {}), 4)
    try:
        os.ftruncate(fd, os.fstat(fd).st_size + more)
        if more:
            with pytest.raises(ValueError, match="whole words"):
                Table(fd)
        else:
            assert Table(fd).slots == (4 if header_bytes else 1)
    finally:
        os.close(fd)


def test_names_are_added_to_the_header_that_others_read(table: Table) -> None:
    os.pwrite(table.fd, Layout(2, 4096, SLOT_WORDS, REASONS[:2], {"opackets": 0}, {}).encode(), 0)
    Table(table.fd)
    assert Layout.decode(os.pread(table.fd, 4096, 0)) == CURRENT


class Superseded:
    """A ledger in which word n of slot s has s * 1000 + n."""

    fd = -1

    def converted(self, index: int) -> list[int]:
        return [index * 1000 + word for word in range(SLOT_WORDS)]

    def cpu_ns(self, index: int) -> int:
        return index * 7


def test_counters_are_read_where_they_are_kept(table: Table) -> None:
    table.slot(2)[5] = 9
    assert table.read(2) == table.slot(2).tolist()
    older = Superseded()
    table.supersede(older, {1, 2})
    assert table.read(1) == older.converted(1)
    assert table.read(2) == older.converted(2)
    assert table.read(3) == [0] * SLOT_WORDS
    table.migrate(1)
    table.slot(1)[5] += 4
    assert table.read(1) == [*older.converted(1)[:5], 1009, *older.converted(1)[6:MIGRATING], 0]
    table.migrate(1)
    table.migrate(3)
    assert table.read(1)[5] == 1009, "copied once only"
    assert table.read(3) == [0] * SLOT_WORDS


def test_a_workers_processor_time_is_copied_once(table: Table) -> None:
    table.supersede(Superseded(), {2})
    assert [table.slot(slot)[MIGRATING] for slot in range(4)] == [0, 0, 1, 0]
    for _ in range(2):
        table.migrate_worker(2)
        assert (table.slot(2)[CPU_NS], table.slot(2)[MIGRATING]) == (14, 0)
        table.slot(2)[CPU_NS] = 14
    table.slot(2)[CPU_NS] = 99
    table.migrate_worker(2)
    table.migrate_worker(3)
    assert (table.slot(2)[CPU_NS], table.slot(3)[CPU_NS]) == (99, 0)


def test_without_the_older_ledger_counters_begin_anew(table: Table) -> None:
    """It could not be read; the slots stay as they are, and are nobody's copy any more."""
    for slot in (1, 2):
        table.slot(slot)[MIGRATING] = 1
    assert table.read(1) == table.slot(1).tolist()
    table.migrate(1)
    table.migrate_worker(2)
    assert table.read(1) == table.read(2) == [0] * SLOT_WORDS


def test_only_words_of_a_slot_have_a_word_in_another_layout() -> None:
    """A header of another version may name what is no word here."""
    places = {"opackets": 3, "oqdrops": 4, "osegments": 5, "oerrors": 8}
    found = ledger.words_of(counters.INTERFACE, places, ("runt", "loss", "family"))
    reasons = {OERRORS + REASONS.index("runt"): 8, OERRORS + REASONS.index("family"): 10}
    assert found == {counters.OPACKETS: 3, **reasons}


def test_appended_words_and_reasons_are_no_other_layout(table: Table) -> None:
    """Versions that know more and fewer words share one ledger; its header names all of them."""
    newer = Layout(
        CURRENT.version, CURRENT.header_bytes, SLOT_WORDS, (*REASONS, "loss"),
        {**CURRENT.interface, "osegments": 50}, CURRENT.worker,
        {**CURRENT.line, "spun": 11}, (*LINE_REASONS, "jam"),
    )  # fmt: skip
    fd = ledger_file(newer, 4)
    try:
        opened = Table(fd)
        assert opened.usable
        assert opened.layout == newer
        os.pwrite(fd, Layout(2, 4096, SLOT_WORDS, REASONS[:2], {"opackets": 0}, {}).encode(), 0)
        assert Table(fd).layout == CURRENT
        assert Table(fd).layout.reasons == REASONS
    finally:
        os.close(fd)


def test_a_worker_of_this_version_counts_in_the_words_of_an_older_layout(old: Table) -> None:
    words = old.slot(2)
    for each in counters.INTERFACE:
        if each.word < SLOT_WORDS:
            words[each.word] = each.word
            assert words[each.word] == (each.word if each.name in LAYOUT_1.interface else 0), each.name
    words[OERRORS + REASONS.index("family")] += 5
    words[IERRORS + len(REASONS)] = 7  # a reason that 0.1.0 does not know
    found = list(old._slot(2))
    expected = [0] * LAYOUT_1.slot_words
    for each in counters.INTERFACE:
        if each.name in LAYOUT_1.interface:
            expected[LAYOUT_1.interface[each.name]] = each.word
    expected[LAYOUT_1.interface["oerrors"] + 5] = 5
    assert found == expected
    old.worker_slot(3)[CPU_NS] = 9
    assert list(old._slot(3))[:3] == [0, 9, 0]


def test_a_worker_counts_lines_in_the_words_of_another_layout(old: Table) -> None:
    """One that has no lines drops what is counted in them."""
    layout = Layout(9, 4096, 64, (), {}, {}, {"cut": 4, "impaired": 5, "late_buckets": 20}, ("jam", "ber"))
    fd = ledger_file(layout, 4)
    try:
        words = Table(fd).line_slot(1)
        words[counters.CUT] = 1
        words[counters.IMPAIRED + LINE_REASONS.index("ber")] = 2
        words[counters.IMPAIRED + LINE_REASONS.index("loss")] = 3
        words[counters.LATE_BUCKETS + 15] = 4
        found = dict(enumerate(Table(fd)._slot(1)))
        assert {word: value for word, value in found.items() if value} == {4: 1, 6: 2, 35: 4}
    finally:
        os.close(fd)
    old.line_slot(2)[counters.CUT] = 7
    assert not any(old._slot(2))


def test_a_line_has_a_slot_of_the_ledger(table: Table) -> None:
    table.line_slot(1)[counters.HELD_FRAMES] = 7
    assert table.read(1)[counters.HELD_FRAMES] == 7


def test_no_process_can_change_the_size_of_a_ledger(table: Table) -> None:
    assert is_sealed(table.fd)
    size = os.fstat(table.fd).st_size
    for other in (0, size - 1, size + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(table.fd, other)
    with pytest.raises(PermissionError):
        fcntl.fcntl(table.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    assert os.fstat(table.fd).st_size == size


def test_a_file_is_constant_once_nobody_can_write_to_it(table: Table) -> None:
    assert not is_constant(table.fd), "its size is sealed only"
    memory = os.memfd_create("trace", os.MFD_ALLOW_SEALING)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    assert not is_constant(memory), "its seals can be added to"
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)
    assert is_constant(memory)
    with pytest.raises(PermissionError):
        os.pwrite(memory, b"1", 0)
    os.close(memory)


def test_a_file_without_seals_is_not_sealed(tmp_path: Path) -> None:
    memory = os.memfd_create("ledger")
    file = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    try:
        assert not is_sealed(memory)
        assert not is_sealed(file)
        assert not is_constant(file)
    finally:
        os.close(memory)
        os.close(file)


@pytest.mark.parametrize("layout", [Layout(2, 4096, 32, (), {}, {}), Layout(2, 8192, 64, (), {}, {})])
def test_a_ledger_of_this_layout_with_other_sizes_is_refused(layout: Layout) -> None:
    fd = ledger_file(layout, 4)
    try:
        with pytest.raises(ValueError, match="other sizes"):
            Table(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "layout", [Layout(9, 0, 1, (), {}, {"cpu_ns": 0}), Layout(9, 8, 2, (), {"opackets": 1}, {"cpu_ns": 0})]
)
def test_a_layout_may_be_as_small_as_its_words(layout: Layout) -> None:
    assert Layout.decode(layout.encode()) == layout


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<8sQ", b"\xe9epaird\n", 1 << 63),
        struct.pack("<8sQ2s", b"\xe9epaird\n", 2, b"[]"),
        struct.pack("<8sQ2s", b"\xe9epaird\n", 2, b"{}"),
        Layout(9, -8, 64, (), {}, {}).encode(),
        Layout(9, -1, 64, (), {}, {}).encode(),
        Layout(9, 0, 1, (), {}, {"cpu_ns": 1}).encode(),
        Layout(9, 4096, 0, (), {}, {}).encode(),
        Layout(9, 4096, 64, REASONS, {"oerrors": 60}, {}).encode(),
        Layout(9, 4096, 64, (), {}, {"cpu_ns": -1}).encode(),
    ],
)
def test_a_ledger_whose_header_was_overwritten_is_refused(header: bytes) -> None:
    with pytest.raises(ValueError, match="the header of a ledger"):
        Layout.decode(header)


HEADER = {"layout": 2, "header_bytes": 4096, "slot_words": 64, "reasons": [], "interface": {}, "worker": {}}


@pytest.mark.parametrize(
    "document",
    [
        b"[" * 4000,
        b"{}",
        json.dumps({**HEADER, "slot_words": 1 << 60}).encode(),
        json.dumps({**HEADER, "header_bytes": 1 << 60}).encode(),
        json.dumps({**HEADER, "header_bytes": -1}).encode(),
        json.dumps({**HEADER, "interface": {"opackets": 64}}).encode(),
        json.dumps({**HEADER, "interface": {"opackets": -1}}).encode(),
        json.dumps(HEADER).replace("4096", "1e999").encode(),
    ],
)
def test_a_header_that_a_worker_has_written_is_refused_whatever_it_is(document: bytes) -> None:
    header = struct.pack("<8sQ", b"\xe9epaird\n", len(document)) + document
    with pytest.raises(ValueError, match="header of a ledger"):
        Layout.decode(header)
