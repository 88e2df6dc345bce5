"""A worker's slot of the ledger."""

from __future__ import annotations

import time

from epaird.control.workers.workerslot import ALIVE_S, WorkerSlot
from epaird.ipc.counters import CPU_NS, DRAIN_LIST, HEARTBEAT_NS, QUEUE_FRAMES, WORKER_OACTIVE
from epaird.ipc.ledger import Table


def test_a_reading_is_what_the_process_has_written() -> None:
    table = Table.create(4)
    slot, words = WorkerSlot(table, 2), table.worker_slot(2)
    words[QUEUE_FRAMES], words[DRAIN_LIST], words[WORKER_OACTIVE] = 5, 3, 1
    words[CPU_NS], words[HEARTBEAT_NS] = 1_500_000_000, time.monotonic_ns()
    found = slot.reading(7, queue_limit=50, restarts=4)
    assert (found.worker, found.queue_limit, found.restarts) == ("7", 50, 4)
    assert (found.queue_frames, found.drain_list, found.oactive) == (5, 3, True)
    assert (found.cpu_seconds, found.alive) == (1.5, True)


def test_a_process_without_a_recent_heartbeat_is_not_alive() -> None:
    table = Table.create(4)
    table.worker_slot(2)[HEARTBEAT_NS] = max(0, time.monotonic_ns() - int(ALIVE_S * 1e9))
    assert not WorkerSlot(table, 2).reading(7, queue_limit=50, restarts=0).alive


def test_processor_time_never_decreases_when_the_slot_changes() -> None:
    table = Table.create(4)
    slot = WorkerSlot(table, 2)
    before, after = table.worker_slot(2), table.worker_slot(3)
    before[CPU_NS] = 10**9
    slot.prepare(3)
    assert after[CPU_NS] == 10**9
    before[CPU_NS] = 2 * 10**9  # of the old process, during the renewal
    assert slot.reading(7, queue_limit=50, restarts=0).cpu_seconds == 2
    slot.move(3)
    assert slot.number == 3
    assert slot.reading(7, queue_limit=50, restarts=0).cpu_seconds == 2
    after[CPU_NS] = 3 * 10**9
    assert slot.reading(7, queue_limit=50, restarts=0).cpu_seconds == 3


def test_activity_changes_with_the_words_of_the_process_in_the_present_slot() -> None:
    table = Table.create(4)
    slot = WorkerSlot(table, 2)
    for word in (HEARTBEAT_NS, QUEUE_FRAMES, DRAIN_LIST):
        before = slot.activity
        table.worker_slot(2)[word] += 1
        assert slot.activity != before
    slot.move(3)
    assert slot.activity == (0, 0, 0)
