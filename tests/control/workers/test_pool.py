"""The worker pool, with workers that have no processes; reloads show that no frame is lost on the way."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.config.settings import DaemonSettings
from epaird.control.workers.pool import WorkerPool, shared
from epaird.control.workers.processes import Spares
from epaird.control.workers.worker import Attachment, Worker, WorkerLost
from epaird.ipc.ledger import Table
from epaird.ipc.messages import CableSpec
from tests.control.stage import CountedSlots
from tests.loop import on_loop, turns

ASSIGNED = st.dictionaries(st.integers(0, 99), st.lists(st.integers(0, 5), min_size=1, max_size=3).map(tuple))


@given(ASSIGNED, st.integers(1, 6))
def test_all_shares_are_equal_and_few_cables_are_moved(
    assigned: dict[int, tuple[int, ...]], count: int
) -> None:
    moved = shared(assigned, count)
    after = assigned | moved
    loads = Counter(number for numbers in after.values() for number in numbers)
    assert set(loads) <= set(range(count))
    total = sum(loads.values())
    assert all(loads[number] in (total // count, -(-total // count)) for number in range(count))
    assert {each: len(numbers) for each, numbers in after.items()} == {
        each: len(numbers) for each, numbers in assigned.items()
    }
    before = Counter(number for numbers in assigned.values() for number in numbers)
    needed = sum(max(0, before[number] - -(-total // count)) for number in range(count))
    homeless = sum(before[number] for number in before if number >= count)
    steps = sum(a != b for each in moved for a, b in zip(moved[each], assigned[each], strict=True))
    assert steps <= needed + homeless + count


def test_equal_shares_are_left_alone() -> None:
    assert shared({"x": (0,), "y": (1,)}, 2) == {}
    assert shared({}, 3) == {}


class RecordingWorker(Worker):
    """A worker without a process that records what it is asked to do."""

    def __init__(self, number: int, table: Table, slot: int) -> None:
        async def died(_worker: Worker) -> None:
            raise AssertionError("it has no process")

        super().__init__(
            number, table, slot, queue_limit=1, poll_spin_us=0,
            device_gone=lambda _cable, _device: None, died=died,
        )  # fmt: skip
        self.calls: list[str] = []
        self.failure: Exception | None = None
        """Raised by start() and renew()."""

    @property
    def pid(self) -> int | None:
        return 1000 + self.number

    async def start(self) -> None:
        self.calls.append("start")
        await turns(1)
        if self.failure is not None:
            raise self.failure

    async def stop(self) -> None:
        self.calls.append("stop")

    async def leave(self) -> None:
        self.calls.append("leave")

    async def renew(self, slot: int) -> None:
        self.calls.append("renew")
        if self.failure is not None:
            raise self.failure
        self.slot = slot

    async def tune(self, *, queue_limit: int, poll_spin_us: int, orphan_timeout: float) -> None:
        self.calls.append(f"tune {queue_limit} {poll_spin_us} {orphan_timeout}")


class FakeCable:
    """A cable of one queue, which counts how often it is moved."""

    destroying = False

    def __init__(self, name: str, worker: Worker) -> None:
        self.name = name
        self.moves = 0
        self.workers: tuple[Worker, ...] = ()
        self._assign((worker,))

    async def move(self, workers: tuple[Worker, ...]) -> None:
        self.moves += 1
        for worker in self.workers:
            del worker.attachments[self.name]
        await turns(1)
        self._assign(workers)

    def _assign(self, workers: tuple[Worker, ...]) -> None:
        self.workers = workers
        for worker in workers:
            worker.attachments[self.name] = Attachment(CableSpec(self.name), ())


class Scene:
    """A pool and the cables of its workers."""

    def __init__(self, table: Table, count: int) -> None:
        self.table = table
        self.slots = CountedSlots(table)
        self.made: list[RecordingWorker] = []
        self.failing: set[int] = set()
        """Numbers of workers that cannot be started."""
        self.cables: list[FakeCable] = []
        self.pool = WorkerPool(count, self.slots, Spares(), self._make, lambda: self.cables, FakeCable.move)

    def _make(self, number: int) -> Worker:
        worker = RecordingWorker(number, self.table, self.slots.take())
        if number in self.failing:
            worker.failure = WorkerLost(f"worker {number} cannot be started")
        self.made.append(worker)
        return worker

    def loads(self) -> list[int]:
        return [len(worker.attachments) for worker in self.pool]


@contextmanager
def scene(count: int, cables: int = 0) -> Iterator[Scene]:
    table = Table.create(64)
    it = Scene(table, count)
    it.cables += [FakeCable(f"epair{number}", it.pool[number % count]) for number in range(cables)]
    yield it
    os.close(table.fd)


@on_loop
async def test_it_is_a_sequence_of_workers() -> None:
    with scene(3) as it:
        assert len(it.pool) == 3
        assert [worker.number for worker in it.pool] == [0, 1, 2]
        assert it.pool[1] is it.made[1]
        assert it.pool[1:] == it.made[1:]


@on_loop
async def test_it_grows_and_shrinks_with_equal_shares() -> None:
    with scene(1, cables=12) as it:
        for count in (3, 4, 2, 1):
            await it.pool.grow(count)
            await it.pool.shrink(count)
            assert len(it.pool) == count
            assert it.loads() == [12 // count] * count
            assert {worker.slot for worker in it.pool} == it.slots.taken
        assert [worker.calls for worker in it.made[1:]] == [["start", "stop"]] * 3
        assert it.made[0].calls == []


@on_loop
async def test_a_worker_that_cannot_be_started_leaves_the_pool_as_it_was() -> None:
    with scene(1, cables=4) as it:
        it.failing = {2}
        with pytest.raises(WorkerLost, match=r"^worker 2 cannot be started$"):
            await it.pool.grow(4)
        assert it.loads() == [4]
        assert it.slots.taken == {it.pool[0].slot}
        assert [worker.calls for worker in it.made[1:]] == [["start", "stop"]] * 3
        assert not any(cable.moves for cable in it.cables)


@on_loop
async def test_what_is_being_destroyed_is_not_moved() -> None:
    with scene(1, cables=4) as it:
        it.cables[0].destroying = True
        await it.pool.grow(2)
        assert it.cables[0].moves == 0
        assert it.loads() == [3, 1]


@on_loop
async def test_a_cable_attached_to_a_worker_that_goes_is_moved_too() -> None:
    """It was being made when the pool began to shrink."""
    with scene(2, cables=4) as it:
        chosen = it.pool[1]
        shrinking = asyncio.create_task(it.pool.shrink(1))
        await turns()
        it.cables.append(FakeCable("epair9", chosen))
        await shrinking
        assert it.loads() == [5]
        assert it.made[1].calls == ["stop"]


@on_loop
async def test_settings_are_applied_once() -> None:
    with scene(2) as it:
        before = DaemonSettings(queue_limit=5)
        now = before.model_copy(update={"queue_limit": 7, "poll_spin_us": 3, "orphan_timeout": 2.5})
        await it.pool.tune(before)
        await it.pool.tune(before.model_copy(update={"watch": True}), before)
        await it.pool.tune(now, before)
        for worker in it.made:
            assert len(worker.calls) == 2
            assert worker.calls[1] == "tune 7 3 2.5"


@on_loop
async def test_processes_of_a_predecessor_are_renewed_one_after_the_other(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scene(3) as it:
        kept: list[int] = []
        monkeypatch.setattr(it.pool, "keep_spare", lambda: kept.append(1))
        it.made[2].failure = WorkerLost("worker 2 died while it was renewed")
        before = [worker.slot for worker in it.pool]
        await it.pool.renew({1000, 1002, 77})
        assert [worker.calls for worker in it.made] == [["renew"], [], ["renew"]]
        assert it.pool[0].slot != before[0]
        assert [worker.slot for worker in it.pool][1:] == before[1:]
        assert {worker.slot for worker in it.pool} == it.slots.taken
        assert caplog.messages == ["worker 2 died while it was renewed"]
        assert len(kept) == 2


@on_loop
async def test_the_watchdog_is_one_task_or_none() -> None:
    with scene(1) as it:
        before = asyncio.all_tasks()
        it.pool.watch(5.0)
        it.pool.watch(0.75)
        await turns()
        assert len(asyncio.all_tasks() - before) == 1
        assert it.pool.watched
        it.pool.watch(0)
        await turns()
        assert asyncio.all_tasks() == before
        assert not it.pool.watched


@on_loop
async def test_all_are_started_stopped_or_left() -> None:
    with scene(2) as it:
        await it.pool.start()
        await it.pool.leave()
        await it.pool.stop()
        assert [worker.calls for worker in it.made] == [["start", "leave", "stop"]] * 2
