"""The line of a half: its ring, and the receiver that it holds frames for."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from epaird.control.interfaces.lines import OutgoingLine, is_ring
from epaird.ipc import ring
from epaird.ipc.counters import HELD_FRAMES, IERRORS, IPACKETS, TARGET, WRITE_ERROR
from epaird.ipc.impairment import LineSpec
from epaird.ipc.ledger import Table

LINE, B, C = 1, 2, 3
BUFFER = 1 << 20


@pytest.fixture
def table() -> Iterator[Table]:
    table = Table.create(8)
    yield table
    os.close(table.fd)


@pytest.fixture
def line(table: Table) -> Iterator[OutgoingLine]:
    line = OutgoingLine.create("epair0a", table, LINE, BUFFER)
    yield line
    line.close()


def hold(line: OutgoingLine, frames: int) -> None:
    """Hold some frames, as a worker does."""
    mapped = ring.Ring(line.files[0])
    for _ in range(frames):
        offset = mapped.place(64)
        mapped.put(0, offset, 64, 1, 1, 0, 0, 52, offset)
        mapped.write = offset + 64
    mapped.commit_intake()
    mapped.close()
    with line.account() as account:
        account.ring.mirror(account.words)


def test_what_is_held_for_a_former_receiver_is_dropped_and_counted_once(
    table: Table, line: OutgoingLine
) -> None:
    table.slot(C)[IPACKETS] = 40
    line.lead_to(B)
    hold(line, 3)
    assert line.words[HELD_FRAMES] == 3
    assert line.lead_to(B) == 0, "the next cable of the same two halves"
    assert line.words[HELD_FRAMES] == 3
    assert line.lead_to(C) == 3
    assert table.slot(B)[IERRORS + WRITE_ERROR] == 3
    assert (line.words[HELD_FRAMES], line.words[TARGET]) == (0, C + 1)
    assert (table.slot(C)[IPACKETS], table.slot(C)[IERRORS + WRITE_ERROR]) == (40, 0)
    hold(line, 2)
    assert line.lead_to(None) == 2
    assert line.lead_to(None) == 0
    assert table.slot(C)[IERRORS + WRITE_ERROR] == 2
    assert not line.leads_to((B, C))


def test_counters_of_a_former_receiver_do_not_come_to_the_next_one(table: Table, line: OutgoingLine) -> None:
    table.slot(B)[IPACKETS] = 1000
    line.lead_to(B)
    hold(line, 1)
    line.lead_to(C)
    with line.account() as account:
        account.ring.settle(0, table.slot(C))
    assert table.slot(C)[IPACKETS] == 0


def test_a_successor_has_the_same_ring(table: Table, line: OutgoingLine) -> None:
    line.lead_to(B)
    line.apply(LineSpec(seed=7, buffer=BUFFER))
    hold(line, 4)
    copies = tuple(map(os.dup, line.fds))
    adopted = OutgoingLine.adopt("epair0a", table, LINE, line.spec, copies, draining=False)
    assert adopted.specs == line.specs
    assert adopted.lead_to(B) == 0
    assert adopted.lead_to(None) == 4
    adopted.close()


def test_what_is_held_moves_to_a_larger_ring(
    table: Table, line: OutgoingLine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.lead_to(B)
    hold(line, 4)
    line.apply(LineSpec(seed=7, buffer=100 * BUFFER))
    assert line.is_small
    with monkeypatch.context() as patched:
        patched.setattr(ring, "create", no_memory)
        assert line.lead_to(B) == 0
    assert "as much is held as before" in caplog.text
    assert line.is_small
    (former,) = line.files
    assert line.lead_to(B) == 0
    assert not line.is_small
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(former)
    hold(line, 3)
    assert line.words[HELD_FRAMES] == 7
    assert line.lead_to(None) == 7
    assert table.slot(B)[IERRORS + WRITE_ERROR] == 7


def no_memory(_name: str, _buffer: int) -> int:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def test_a_line_without_its_ring_begins_anew(
    table: Table, line: OutgoingLine, caplog: pytest.LogCaptureFixture
) -> None:
    line.lead_to(B)
    damaged = os.memfd_create("no ring")
    for fds in ((), (damaged,)):
        adopted = OutgoingLine.adopt("epair0a", table, LINE, LineSpec(buffer=BUFFER), fds, draining=False)
        assert is_ring(adopted.files[0])
        assert adopted.lead_to(None) == 0
        adopted.close()
    assert "its ring is missing or damaged" in caplog.text
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(damaged)


def test_a_line_that_is_turned_off_is_given_to_workers_until_it_is_drained(line: OutgoingLine) -> None:
    assert not (*line.specs, *line.fds)
    line.apply(None)
    assert not line.specs, "it never held anything"
    line.apply(LineSpec(seed=7))
    assert line.specs == (LineSpec(LINE, seed=7),)
    assert len(line.fds) == 1
    line.apply(None)
    assert line.specs == (LineSpec(LINE, draining=True),)
    assert len(line.fds) == 1
    line.drained()
    assert not (*line.specs, *line.fds)
    assert len(line.files) == 1, "the ring stays for the next impairment"


def test_a_late_report_of_a_drained_line_changes_nothing(line: OutgoingLine) -> None:
    line.apply(LineSpec(seed=7))
    line.apply(None)
    line.apply(LineSpec(seed=8))
    line.drained()
    assert line.specs == (LineSpec(LINE, seed=8),)


def test_what_a_worker_has_written_to_the_slot_leads_a_line_nowhere_else(
    table: Table, line: OutgoingLine
) -> None:
    line.lead_to(B)
    hold(line, 3)
    for target in (C + 1, (1 << 64) - 1, 0):
        table.line_slot(LINE)[TARGET] = target
        assert line.lead_to(B) == 0
        assert line.leads_to((B,))
    assert line.lead_to(C) == 3
    assert table.slot(B)[IERRORS + WRITE_ERROR] == 3
    table.line_slot(LINE)[TARGET] = 1 << 32
    adopted = OutgoingLine.adopt("epair0a", table, LINE, None, tuple(map(os.dup, line.files)), draining=False)
    assert adopted.lead_to(None) == 0
    adopted.close()


def test_a_ring_that_a_worker_has_damaged_is_replaced_under_the_same_descriptor(
    line: OutgoingLine, caplog: pytest.LogCaptureFixture
) -> None:
    line.lead_to(B)
    hold(line, 3)
    os.pwrite(line.files[0], bytes(4096), 0)
    before = line.files
    assert line.lead_to(B) == 0
    assert line.files == before
    assert is_ring(line.files[0])
    assert "the frames that impairment held are lost, a new ring is used" in caplog.text
    hold(line, 2)
    assert line.lead_to(C) == 2


def test_the_log_is_read_while_a_worker_has_the_ring(line: OutgoingLine) -> None:
    mapped = ring.Ring(line.files[0])
    mapped.note(7, 1)
    mapped.head += 1  # as between two reads of the state
    mapped.commit_intake()
    assert line.decisions() == [(7, 1)]
    mapped.close()
