"""Counters copied by name from a ledger that another one supersedes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from epaird.ipc import counters
from epaird.ipc.counters import CPU_NS, IERRORS, MIGRATING, OERRORS, REASONS, SLOT_WORDS, TOO_BIG
from epaird.ipc.ledger import CURRENT, LAYOUT_1, Layout, Table
from epaird.ipc.oldledger import OldLedger
from tests.ipc.ledgers import ledger_file


@pytest.fixture
def table() -> Iterator[Table]:
    table = Table.create(4)
    yield table
    os.close(table.fd)


@pytest.fixture
def writer() -> Iterator[Table]:
    """A ledger of epaird 0.1.0, whose interface in slot 1 has counted something in each word."""
    table = Table(ledger_file(LAYOUT_1, 4))
    for word in range(LAYOUT_1.slot_words):
        table._slot(1)[word] = 1000 + word
    yield table
    os.close(table.fd)


@pytest.fixture
def old(writer: Table) -> OldLedger:
    return OldLedger(writer.fd)


def assert_converted(words: list[int]) -> None:
    for each in counters.INTERFACE:
        if each.word >= SLOT_WORDS or each.name == "migrating":
            continue
        if each.name not in LAYOUT_1.interface:
            assert words[each.word] == 0, each.name
            continue
        first = 1000 + LAYOUT_1.interface[each.name]
        if each.by_reason:
            found = words[each.word : each.word + counters.REASONS_MAX]
            assert found == [first + n for n in range(6)] + [0] * (counters.REASONS_MAX - 6)
        else:
            assert words[each.word] == first, each.name


def test_counters_are_copied_by_name_once_and_read_from_the_old_slot_until_then(
    table: Table, old: OldLedger, writer: Table
) -> None:
    table.supersede(old, {1})
    assert_converted(table.read(1))
    writer._slot(1)[0] += 7
    assert table.read(1)[0] == 1007, "the old slot has a writer still"
    assert sum(table.read(2)) == 0
    table.migrate(1)
    writer._slot(1)[0] = 5000
    table.migrate(1)
    writer._slot(1)[0] = 1000
    assert table.read(1)[0] == 1007
    table.slot(1)[0] = 1000
    assert_converted(table.read(1))
    assert table.slot(1)[MIGRATING] == 0


def test_a_copy_that_was_interrupted_is_finished_by_the_next_process(table: Table, old: OldLedger) -> None:
    table.supersede(old, {1, 2})
    table.migrate(2)
    successor = Table(table.fd)
    successor.older = OldLedger(old.fd)
    assert [successor.slot(slot)[MIGRATING] for slot in range(4)] == [0, 1, 0, 0]
    assert_converted(successor.read(1))
    successor.migrate(1)
    assert_converted(table.slot(1).tolist())


def test_a_slot_whose_older_ledger_is_gone_starts_with_what_it_has(table: Table, old: OldLedger) -> None:
    table.supersede(old, {1})
    successor = Table(table.fd)
    successor.migrate(1)
    assert not any(successor.read(1))


def test_the_processor_time_of_a_worker_is_copied(table: Table, old: OldLedger) -> None:
    table.supersede(old, {1})
    table.migrate_worker(1)
    assert table.slot(1)[CPU_NS] == 1001
    table.slot(1)[CPU_NS] = 2000
    table.migrate_worker(1)
    assert [word for word in table.slot(1) if word] == [2000]


def test_a_control_plane_that_dies_before_the_processor_time_is_copied_copies_it_again(
    table: Table, old: OldLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(_index: int) -> None:
        raise InterruptedError

    table.supersede(old, {1})
    with monkeypatch.context() as patch:
        patch.setattr(old, "cpu_ns", die)
        with pytest.raises(InterruptedError):
            table.migrate_worker(1)
    table.migrate_worker(1)
    assert table.slot(1)[CPU_NS] == 1001


def test_a_ledger_of_a_layout_of_the_future_is_copied_by_name(table: Table) -> None:
    future = Layout(9, 8192, 128, ("family", "loss", "runt"), {"too_big": 99, "oerrors": 3, "warp": 1}, {})
    other = Table(ledger_file(future, 4))
    try:
        other._slot(3)[99], other._slot(3)[3], other._slot(3)[4], other._slot(3)[5] = 1, 2, 3, 4
        table.supersede(OldLedger(other.fd), {3})
        table.migrate(3)
        found = {word: value for word, value in enumerate(table.slot(3)) if value}
        assert found == {TOO_BIG: 1, OERRORS + REASONS.index("family"): 2, OERRORS + REASONS.index("runt"): 4}
        assert not any(table.slot(3)[IERRORS : IERRORS + 6])
        assert OldLedger(other.fd).cpu_ns(3) == 0, "it has no such word"
    finally:
        os.close(other.fd)


def test_the_counters_of_a_ledger_that_was_cut_off_are_zero(table: Table, old: OldLedger) -> None:
    """A mapping of the file would end the process here."""
    table.supersede(old, {1})
    os.ftruncate(old.fd, 0)
    table.migrate(1)
    assert not any(table.read(1))
    assert old.cpu_ns(3) == 0


def test_a_ledger_of_this_layout_that_is_not_sealed_is_copied_too(table: Table) -> None:
    before = Table(ledger_file(CURRENT, 4))
    try:
        before.slot(2)[OERRORS] = 5
        before.worker_slot(3)[CPU_NS] = 7
        table.supersede(OldLedger(before.fd), {2, 3})
        table.migrate(2)
        table.migrate_worker(3)
        assert table.slot(2)[OERRORS] == 5
        assert table.slot(3)[CPU_NS] == 7
    finally:
        os.close(before.fd)
