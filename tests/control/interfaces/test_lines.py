"""The line of a half: its ring, and the receiver that it holds frames for."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from epaird.control.interfaces.lines import OutgoingLine, is_ring
from epaird.ipc import ring, ringfile
from epaird.ipc.counters import (
    ESEGMENTS,
    HELD_FRAMES,
    IERRORS,
    IMPAIRED,
    IPACKETS,
    ISEGMENTS,
    LATE_BUCKETS,
    OSEGMENTS,
    TARGET,
    WRITE_ERROR,
)
from epaird.ipc.impairment import LineParameters, LineSpec
from epaird.ipc.ledger import Table, Words
from epaird.ipc.ringsoundness import LOST
from tests.loop import on_loop, turns

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


def test_a_process_that_has_the_ring_of_a_former_receiver_has_not_that_of_the_next_one(
    table: Table, line: OutgoingLine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.lead_to(B)
    hold(line, 3)
    mapped = ring.Ring(line.files[0])
    mapped.decide((1, 2, 3))
    mapped.note(17, 1)
    mapped.commit_intake()
    mapped.close()
    before, number = os.dup(line.files[0]), line.files
    assert line.lead_to(B) == 0
    assert ringfile.same(before, line.files[0])
    assert line.lead_to(None) == 3
    assert not ringfile.same(before, line.files[0])
    assert line.files == number
    assert line.decisions() == [(17, 1)]
    assert line.lead_to(C) == 0
    mapped = ring.Ring(line.files[0])
    assert mapped.decided() == (1, 2, 3)
    mapped.close()
    os.close(before)
    hold(line, 2)
    with monkeypatch.context() as patched:
        patched.setattr(ring, "create", no_memory)
        assert line.lead_to(B) == 2
    assert "Cannot allocate memory; its ring is used for the next receiver, too" in caplog.text
    assert line.words[ESEGMENTS] == 5


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
        asyncio.run(line.enlarge())
    assert "as much is held as before" in caplog.text
    assert line.is_small
    before = line.files
    asyncio.run(line.enlarge())
    assert line.lead_to(B) == 0
    assert not line.is_small
    assert line.files == before, "attachments have the number of its descriptor"
    hold(line, 3)
    assert line.words[HELD_FRAMES] == 7
    assert line.lead_to(None) == 7
    assert table.slot(B)[IERRORS + WRITE_ERROR] == 7


@on_loop
async def test_a_line_that_is_changed_while_its_ring_is_copied_keeps_the_ring() -> None:
    """The control plane does other work between the pieces of the copy."""
    table = Table.create(8)
    line = OutgoingLine.create("epair0a", table, LINE, 100 * BUFFER)
    line.lead_to(B)
    mapped = ring.Ring(line.files[0])
    offset = mapped.place(16 * BUFFER)
    mapped.put(0, offset, 16 * BUFFER, 1, 1, 0, 0, 16 * BUFFER, offset)
    mapped.write = offset + 16 * BUFFER
    mapped.commit_intake()
    mapped.close()
    line.apply(LineSpec(seed=7, buffer=200 * BUFFER))
    growing = asyncio.create_task(line.enlarge())
    await turns(2)
    assert not growing.done()
    before = line.files
    assert line.lead_to(None) == 1
    await growing
    assert line.files == before
    assert line.lead_to(C) == 0
    growing = asyncio.create_task(line.enlarge())
    await turns(1)
    line.close()
    await growing
    os.close(table.fd)


def no_memory(_name: str, _buffer: int) -> int:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def test_a_line_without_its_ring_begins_anew(
    table: Table, line: OutgoingLine, caplog: pytest.LogCaptureFixture
) -> None:
    line.lead_to(B)
    damaged = os.memfd_create("no ring")
    line_words(table)[OSEGMENTS] = 40
    for fds in ((), (damaged,)):
        adopted = OutgoingLine.adopt("epair0a", table, LINE, LineSpec(buffer=BUFFER), fds, draining=False)
        assert is_ring(adopted.files[0])
        assert adopted.lead_to(C) == 0
        assert adopted.words[OSEGMENTS] == 40
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
    assert line.specs == (LineSpec(LINE, seed=7, longest_ns=0),)
    assert len(line.fds) == 1
    line.apply(None)
    assert line.specs == (LineSpec(LINE, draining=True, longest_ns=0),)
    assert len(line.fds) == 1
    line.drained()
    assert not (*line.specs, *line.fds)
    assert len(line.files) == 1, "the ring stays for the next impairment"


def test_a_late_report_of_a_drained_line_changes_nothing(line: OutgoingLine) -> None:
    line.apply(LineSpec(seed=7))
    line.apply(None)
    line.apply(LineSpec(seed=8))
    line.drained()
    assert line.specs == (LineSpec(LINE, seed=8, longest_ns=0),)


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


def test_a_ring_that_a_worker_has_damaged_begins_anew_and_no_counter_goes_back(
    table: Table, line: OutgoingLine, caplog: pytest.LogCaptureFixture
) -> None:
    line.lead_to(B)
    hold(line, 3)
    for word, count in enumerate((4, 5, 6, 7, 8)):
        line_words(table)[word] = count
    line_words(table)[OSEGMENTS], line_words(table)[ISEGMENTS] = 100, 90
    line_words(table)[IMPAIRED], line_words(table)[LATE_BUCKETS] = 10, 11
    before = line.words
    os.pwrite(line.files[0], bytes(4096), 0)
    assert line.lead_to(B) == 0
    assert line.lead_to(C) == 0, "it holds nothing"
    assert table.slot(B)[IERRORS + WRITE_ERROR] == 3
    held = slice(HELD_FRAMES, HELD_FRAMES + 3)
    after = line.words
    assert (before.pop(ESEGMENTS), after.pop(ESEGMENTS)) == (0, 3)
    assert (before[held], after[held]) == ([3, 3, 156], [0, 0, 0])
    before[held], before[TARGET] = after[held], C + 1
    assert before == after
    assert caplog.text.count("the frames that impairment held are lost, its ring begins anew") == 1
    assert len(caplog.records) == 1
    hold(line, 2)
    assert line.lead_to(B) == 2
    assert line.words[OSEGMENTS] == 100


def line_words(table: Table) -> Words:
    return table.line_slot(LINE)


def test_a_ring_that_cannot_be_mapped_is_emptied_where_it_has_to_be(
    table: Table,
    line: OutgoingLine,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Mapping takes a descriptor and memory, of which there may be none."""
    line.lead_to(B)
    hold(line, 3)
    line_words(table)[OSEGMENTS] = 50
    with monkeypatch.context() as patched:
        patched.setattr("mmap.mmap", no_map)
        assert line.lead_to(B) == 0, "its worker can try"
        with line.account() as account:
            account.ring.settle(7, table.slot(B))
            account.ring.mirror(account.words)
        assert line.words[HELD_FRAMES] == 3
        assert line.lead_to(C) == 3, "the next receiver gets nothing of it"
    assert table.slot(B)[IERRORS + WRITE_ERROR] == 3
    assert table.slot(B)[IPACKETS] == 0
    assert [record.message for record in caplog.records if "memory" in record.message] == [
        "epair0a: impairment: Cannot allocate memory; its worker may have the memory",
        "epair0a: impairment: Cannot allocate memory; the last frames that impairment delivered may be "
        "delivered again",
        f"epair0a: impairment: Cannot allocate memory: {LOST}",
    ]
    assert line.lead_to(B) == 0
    assert (line.words[OSEGMENTS], line.words[ESEGMENTS]) == (50, 3)


def no_map(_fd: int, _length: int) -> mmap.mmap:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def test_a_ring_that_a_worker_writes_to_is_taken_over(line: OutgoingLine) -> None:
    """Its state may contradict itself at the moment at which the successor looks."""
    hold(line, 3)
    mapped = ring.Ring(line.files[0])
    mapped.head -= 4
    mapped.commit_intake()
    mapped.close()
    assert is_ring(line.files[0])


def test_no_process_can_take_the_memory_of_a_ring_away(line: OutgoingLine) -> None:
    """The control plane has it mapped: a page that is gone would end it by a signal."""
    fd = line.files[0]
    mapped = ring.Ring(fd)
    shrink = "import os, sys; os.ftruncate(int(sys.argv[1]), int(sys.argv[2]))"
    for size in (0, 1 << 40):
        command = [sys.executable, "-I", "-c", shrink, str(fd), str(size)]
        done = subprocess.run(command, pass_fds=(fd,), capture_output=True, text=True, check=False)
        assert "Operation not permitted" in done.stderr
    for seal in (fcntl.F_SEAL_WRITE, fcntl.F_SEAL_GROW):
        with pytest.raises(PermissionError):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seal)
    mapped.data[mapped.size - 1] = 1
    mapped.close()


def test_the_longest_time_that_a_frame_can_be_held_includes_former_impairments(line: OutgoingLine) -> None:
    for delay_ns, longest_ns in ((10**9, 10**9), (10**6, 10**9), (10**10, 10**10)):
        line.apply(LineSpec(parameters=LineParameters(delay_ns=delay_ns)))
        assert line.spec is not None
        assert line.spec.longest_ns == longest_ns


def test_the_log_is_read_while_a_worker_has_the_ring(line: OutgoingLine) -> None:
    mapped = ring.Ring(line.files[0])
    mapped.note(7, 1)
    mapped.head += 1  # as between two reads of the state
    mapped.commit_intake()
    assert line.decisions() == [(7, 1)]
    mapped.close()
