"""The ledger in use after a takeover."""

from __future__ import annotations

import os
from collections.abc import Iterable

import pytest

from epaird.control.handover import ledgers
from epaird.control.handover.ledgers import finish_migration, open_ledger, table_identity
from epaird.ipc import counters
from epaird.ipc.ledger import CURRENT, LAYOUT_1, Table
from epaird.kernel.namespace import Identity
from tests.ipc.ledgers import ledger_file


@pytest.fixture(autouse=True)
def few_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "SLOTS", 8)


@pytest.fixture
def older() -> Table:
    """A ledger of 0.1.0, in which the interface of slot 1 has transmitted 7 frames."""
    fd = os.memfd_create("older")
    os.ftruncate(fd, 8 * LAYOUT_1.slot_words * 8)
    table = Table(fd)
    table.slot(1)[LAYOUT_1.interface["opackets"]] = 7
    return table


def passed(tables: Iterable[Table]) -> dict[Identity, int]:
    """Return copies of descriptors, as they are passed."""
    return {table_identity(table): os.dup(table.fd) for table in tables}


def test_without_a_ledger_a_new_one_is_created() -> None:
    table = open_ledger({}, ())
    assert (table.slots, table.usable, table.older) == (8, True, None)
    os.close(table.fd)


def test_a_ledger_of_this_layout_is_used_as_it_is() -> None:
    before = Table.create(8)
    before.slot(1)[counters.OPACKETS] = 7
    table = open_ledger(passed([before]), {1})
    assert table_identity(table) == table_identity(before)
    assert table.read(1)[counters.OPACKETS] == 7
    finish_migration(table, {1})
    assert table.read(1)[counters.OPACKETS] == 7
    for each in (before, table):
        os.close(each.fd)


def test_a_ledger_that_cannot_be_read_is_closed_and_a_new_one_is_created() -> None:
    before = Table.create(8)
    os.pwrite(before.fd, b"\xff" * 8, 16)  # as a worker that runs wild may
    left = passed([before])
    table = open_ledger(left, {1})
    assert table_identity(table) != table_identity(before)
    assert (table.usable, table.older, table.read(1)[counters.OPACKETS]) == (True, None, 0)
    (fd,) = left.values()
    assert fd == table.fd, "it was closed, and the new one has its number"
    for each in (before, table):
        os.close(each.fd)


@pytest.mark.parametrize(("slots", "taken"), [(9, 1), (4, 4)], ids=["too large", "too small"])
def test_a_ledger_that_a_worker_has_made_and_sealed_is_not_used(
    slots: int, taken: int, caplog: pytest.LogCaptureFixture
) -> None:
    forged = Table.create(slots)
    table = open_ledger(passed([forged]), {taken})
    assert (table.slots, table.older) == (8, None)
    assert "a ledger that another daemon has left cannot be read: it " in caplog.text
    for each in (forged, table):
        os.close(each.fd)


def test_an_older_ledger_is_superseded_and_closed_once_it_is_copied(older: Table) -> None:
    table = open_ledger(passed([older]), {1})
    assert table.usable
    assert table.older is not None
    assert table.slot(1)[counters.OPACKETS] == 0
    assert table.read(1)[counters.OPACKETS] == 7
    fd = table.older.fd
    # The daemon is killed before the slot is copied: the next one finds both ledgers.
    again = open_ledger(passed([table, older]), {1})
    finish_migration(again, {1})
    assert again.older is None
    assert table.slot(1)[counters.OPACKETS] == 7
    os.fstat(fd)
    finish_migration(table, {1})
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    for each in (again, table, older):
        os.close(each.fd)


def test_a_ledger_that_a_worker_could_make_shorter_is_copied_instead_of_mapped() -> None:
    before = Table(ledger_file(CURRENT, 8))
    before.slot(1)[counters.OPACKETS] = 7
    table = open_ledger(passed([before]), {1})
    assert table_identity(table) != table_identity(before)
    assert table.read(1)[counters.OPACKETS] == 7
    os.ftruncate(before.fd, 0)
    assert table.read(1)[counters.OPACKETS] == 0
    os.ftruncate(before.fd, os.fstat(table.fd).st_size)
    finish_migration(table, {1})
    for each in (before, table):
        os.close(each.fd)
