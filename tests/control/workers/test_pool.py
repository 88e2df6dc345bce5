"""The worker pool, with workers that have no processes; reloads show that no frame is lost on the way."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird import __version__
from epaird.config.settings import DaemonSettings
from epaird.control.workers import pool
from epaird.control.workers.pool import WorkerPool, shared
from epaird.control.workers.processes import Spares
from epaird.control.workers.worker import Attachment, Worker, WorkerLost
from epaird.ipc.ledger import Table
from epaird.ipc.messages import CableSpec
from tests.control.stage import CountedSlots
from tests.loop import on_loop, turns
from tests.waiting import eventually

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
    """A worker without a process that records the requests to it."""

    def __init__(self, number: int, table: Table, slot: int) -> None:
        async def died(_worker: Worker) -> None:
            raise AssertionError("it has no process")

        super().__init__(
            number, table, slot, queue_limit=1, poll_spin_us=0,
            device_gone=lambda _cable, _device: None, died=died,
        )  # fmt: skip
        self.version: str | OSError | None = None
        """The result of other_version(); None for a process that no predecessor started."""
        self.calls: list[str] = []
        self.failure: Exception | None = None
        """Raised by start() and renew()."""

    @property
    def pid(self) -> int | None:
        return 1000 + self.number

    @property
    def adopted(self) -> bool:
        return self.version is not None

    async def other_version(self) -> str:
        self.calls.append("ask")
        if isinstance(self.version, OSError):
            raise self.version
        return self.version or ""

    async def start(self, attempts: int = 1) -> None:  # noqa: ARG002
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
        self._slot.move(slot)
        self.version = None

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
            worker.attachments.pop(self.name, None)
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
def make_scene(count: int, cables: int = 0) -> Iterator[Scene]:
    table = Table.create(64)
    scene = Scene(table, count)
    scene.cables += [FakeCable(f"epair{number}", scene.pool[number % count]) for number in range(cables)]
    yield scene
    os.close(table.fd)


@on_loop
async def test_it_is_a_sequence_of_workers() -> None:
    with make_scene(3) as scene:
        assert len(scene.pool) == 3
        assert [worker.number for worker in scene.pool] == [0, 1, 2]
        assert scene.pool[1] is scene.made[1]
        assert scene.pool[1:] == scene.made[1:]


@on_loop
async def test_it_grows_and_shrinks_with_equal_shares() -> None:
    with make_scene(1, cables=12) as scene:
        for count in (3, 4, 2, 1):
            await scene.pool.grow(count)
            await scene.pool.shrink(count)
            assert len(scene.pool) == count
            assert scene.loads() == [12 // count] * count
            assert {worker.slot for worker in scene.pool} == scene.slots.taken
        assert [worker.calls for worker in scene.made[1:]] == [["start", "stop"]] * 3
        assert scene.made[0].calls == []


@on_loop
async def test_a_worker_that_cannot_be_started_leaves_the_pool_as_it_was() -> None:
    with make_scene(1, cables=4) as scene:
        scene.failing = {2}
        with pytest.raises(WorkerLost, match=r"^worker 2 cannot be started$"):
            await scene.pool.grow(4)
        assert scene.loads() == [4]
        assert scene.slots.taken == {scene.pool[0].slot}
        assert [worker.calls for worker in scene.made[1:]] == [["start", "stop"]] * 3
        assert not any(cable.moves for cable in scene.cables)


@on_loop
async def test_cables_that_are_being_destroyed_are_not_moved() -> None:
    with make_scene(1, cables=4) as scene:
        scene.cables[0].destroying = True
        await scene.pool.grow(2)
        assert scene.cables[0].moves == 0
        assert scene.loads() == [3, 1]


@on_loop
async def test_a_cable_attached_to_a_worker_that_is_removed_is_moved_too() -> None:
    """It was being created when the pool began to shrink."""
    with make_scene(2, cables=4) as scene:
        chosen = scene.pool[1]
        shrinking = asyncio.create_task(scene.pool.shrink(1))
        await turns()
        scene.cables.append(FakeCable("epair9", chosen))
        await shrinking
        assert scene.loads() == [5]
        assert scene.made[1].calls == ["stop"]


@on_loop
async def test_a_queue_that_another_worker_has_for_now_is_assigned_to_one_that_stays() -> None:
    """One worker has all queues of an impaired pair; once it is unpatched, each has its own again."""
    with make_scene(2) as scene:
        scene.cables.append(cable := FakeCable("epair0", scene.pool[0]))
        cable.workers = scene.pool[0], scene.pool[1]
        await scene.pool.shrink(1)
        assert cable.workers == (scene.pool[0], scene.pool[0])


@on_loop
async def test_settings_are_applied_once() -> None:
    with make_scene(2) as scene:
        before = DaemonSettings(queue_limit=5)
        now = before.model_copy(update={"queue_limit": 7, "poll_spin_us": 3, "orphan_timeout": 2.5})
        await scene.pool.tune(before)
        await scene.pool.tune(before.model_copy(update={"watch": True}), before)
        await scene.pool.tune(now, before)
        for worker in scene.made:
            assert len(worker.calls) == 2
            assert worker.calls[1] == "tune 7 3 2.5"


@on_loop
async def test_after_an_upgrade_every_process_of_the_predecessor_is_renewed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its code may differ although its version does not."""
    caplog.set_level(logging.INFO)
    with make_scene(3) as scene:
        kept: list[int] = []
        monkeypatch.setattr(scene.pool, "keep_spare", lambda: kept.append(1))
        before = [worker.slot for worker in scene.pool]
        scene.made[0].version = scene.made[2].version = ""
        await scene.pool.renew(upgraded=True)
        assert [worker.calls for worker in scene.made] == [["renew"], [], ["renew"]]
        assert [worker.slot == slot for worker, slot in zip(scene.pool, before, strict=True)] == [
            False,
            True,
            False,
        ]
        assert {worker.slot for worker in scene.pool} == scene.slots.taken
        assert caplog.messages == [
            "worker 0 is renewed (pid 1000)",
            "worker 2 is renewed (pid 1002)",
            f"upgraded to epaird {__version__}",
        ]
        assert len(kept) == 2


@on_loop
async def test_without_an_upgrade_only_processes_of_another_version_are_renewed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    with make_scene(4) as scene:
        monkeypatch.setattr(scene.pool, "keep_spare", lambda: None)
        scene.made[0].version, scene.made[1].version, scene.made[3].version = "0.3.9", "", "99.0"
        slot = scene.pool[1].slot
        await scene.pool.renew(upgraded=False)
        assert [worker.calls for worker in scene.made] == [["ask", "renew"], ["ask"], [], ["ask", "renew"]]
        assert scene.pool[1].slot == slot
        assert {worker.slot for worker in scene.pool} == scene.slots.taken
        assert caplog.messages == [
            "worker 0 is renewed (pid 1000): its process was of epaird 0.3.9",
            "worker 3 is renewed (pid 1003): its process was of epaird 99.0",
        ]


@on_loop
async def test_a_process_that_does_not_report_its_version_delays_no_other_and_is_asked_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "RENEW_AGAIN_S", (0.0, 0.01))
    with make_scene(2) as scene:
        monkeypatch.setattr(scene.pool, "keep_spare", lambda: None)
        scene.made[0].version, scene.made[1].version = TimeoutError(110, "no answer"), "0.3.9"
        renewing = asyncio.create_task(scene.pool.renew(upgraded=False))
        await eventually(lambda: scene.made[0].calls.count("ask") > 2)
        assert scene.made[1].calls == ["ask", "renew"]
        scene.made[0].version = ""
        await renewing
        assert "renew" not in scene.made[0].calls
        assert set(caplog.messages) == {"worker 0 is not renewed: no answer; it is tried again"}


@on_loop
async def test_a_renewal_that_fails_is_tried_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a process of an older version would forward for ever, outside of the sandbox."""
    monkeypatch.setattr(pool, "RENEW_AGAIN_S", (0.0, 0.2))
    with make_scene(3) as scene:
        monkeypatch.setattr(scene.pool, "keep_spare", lambda: None)
        scene.made[2].failure = WorkerLost("worker 2 (pid 7) was not ready within 1 s and was killed")
        before = scene.pool[2].slot
        scene.made[0].version = scene.made[2].version = ""
        renewing = asyncio.create_task(scene.pool.renew(upgraded=True))
        await eventually(lambda: len(scene.made[2].calls) > 1)
        assert scene.made[0].calls == ["renew"]
        assert scene.pool[2].slot == before
        scene.made[2].failure = None
        await renewing
        assert scene.pool[2].slot != before
        assert {worker.slot for worker in scene.pool} == scene.slots.taken
        assert set(caplog.messages) == {
            "worker 2 (pid 7) was not ready within 1 s and was killed; the renewal is tried again"
        }


@on_loop
async def test_the_watchdog_is_one_task_or_none() -> None:
    with make_scene(1) as scene:
        before = asyncio.all_tasks()
        scene.pool.watch(5.0)
        scene.pool.watch(0.75)
        await turns()
        assert len(asyncio.all_tasks() - before) == 1
        assert scene.pool.watched
        scene.pool.watch(0)
        await turns()
        assert asyncio.all_tasks() == before
        assert not scene.pool.watched


@on_loop
async def test_all_are_started_stopped_or_left() -> None:
    with make_scene(2) as scene:
        await scene.pool.start()
        await scene.pool.leave()
        await scene.pool.stop()
        assert [worker.calls for worker in scene.made] == [["start", "leave", "stop"]] * 2
