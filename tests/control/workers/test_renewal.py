"""The renewal of workers: no frame is lost, whatever dies, stops or is requested meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from epaird.control.workers.processes import Launched
from epaird.control.workers.renewal import Renewal
from epaird.control.workers.states import WorkerState
from epaird.control.workers.worker import Worker, WorkerLost
from tests.control.fakeowner import numbered
from tests.control.stage import balance, real_stage
from tests.control.workers.staged import crosses, drained, fill, full, pid, replaced
from tests.loop import has_children, on_loop, turns
from tests.waiting import eventually


def exists(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


@on_loop
async def test_a_renewed_worker_loses_nothing_and_keeps_the_order() -> None:
    async with real_stage() as stage:
        for number in range(3):
            await stage.make(f"epair{number}")
        (worker,) = stage.workers
        a, b = stage.owner("epair0a"), stage.owner("epair0b")
        for _ in range(3):
            before, slot = pid(worker), stage.slots.take()
            renewing = asyncio.create_task(worker.renew(slot))
            old = worker.slot
            while not renewing.done():
                with contextlib.suppress(BlockingIOError):
                    a.sends(3)
                b.receives()
                await asyncio.sleep(0)
            await renewing
            stage.slots.release(old)
            assert worker.pid != before
            assert worker.slot == slot
            assert not exists(before)
        await drained(stage)
        assert b.received == [numbered(number) for number in range(a.sent)]
        assert balance(stage, "epair0a", "epair0b")["lost"] == 0
        assert worker.restarts == 0
        assert stage.lost == []
        for number in range(3):
            await crosses(stage, f"epair{number}")
        stage.slots.release(worker.slot)
        stage.slots.taken.add(0)


@on_loop
async def test_requests_during_a_renewal_are_carried_out_once() -> None:
    async with real_stage() as stage:
        for number in range(20):
            await stage.make(f"epair{number}")
        (worker,) = stage.workers
        slot = stage.slots.take()
        renewing = asyncio.create_task(worker.renew(slot))
        number = 20
        while not renewing.done():
            await stage.make(f"epair{number}")
            await worker.resize(f"epair{number - 5}", (9000, 9000))
            destroyed = next(pair for pair in stage.pairs if pair.name == f"epair{number - 20}")
            with stage.owner(f"{destroyed.name}b").watched() as device:
                await stage.pairs.destroy(destroyed)
                assert device.closed_everywhere()
            number += 1
        await renewing
        assert sorted(worker.attachments) == sorted(pair.name for pair in stage.pairs)
        for pair in stage.pairs:
            await crosses(stage, pair.name)
        stage.slots.release(slot)


async def moving(worker: Worker, slot: int) -> tuple[asyncio.Task[None], Renewal]:
    """Begin to renew a worker; return when its first cables move."""
    renewing = asyncio.create_task(worker.renew(slot))
    while worker._renewal is None or not worker._renewal.moves:
        await turns(1)
    return renewing, worker._renewal


@on_loop
async def test_a_cable_detached_while_it_moves_is_detached_by_the_new_process() -> None:
    async with real_stage() as stage:
        for number in range(5):
            await stage.make(f"epair{number}")
        (worker,) = stage.workers
        slot = stage.slots.take()
        renewing, renewal = await moving(worker, slot)
        assert not any(arrival.done() for arrival in renewal.moves.values())
        await worker.detach("epair3", 1)
        assert sorted(worker.attachments) == ["epair0", "epair1", "epair2", "epair4"]
        with stage.owner("epair3b").watched() as device:
            await stage.pairs.destroy(next(pair for pair in stage.pairs if pair.name == "epair3"))
            assert device.closed_everywhere()
        await renewing
        stage.slots.release(slot)


@pytest.mark.parametrize("which", ["the old process", "the new process"])
def test_a_death_of_either_process_is_the_workers(which: str) -> None:
    async def die() -> None:
        async with real_stage() as stage:
            for number in range(30):
                await stage.make(f"epair{number}")
            (worker,) = stage.workers
            stage.owner("epair0a").sends(5)
            slot, old = stage.slots.take(), pid(worker)
            renewing, renewal = await moving(worker, slot)
            new = renewal.new
            os.kill(old if which == "the old process" else new.pid, signal.SIGKILL)
            with pytest.raises(WorkerLost):
                await renewing
            await replaced(worker)
            assert not exists(new.pid)
            assert not exists(old)
            await crosses(stage, "epair0")
            await crosses(stage, "epair29")
            await drained(stage)
            balance(stage, "epair0a", "epair0b")
            stage.slots.release(slot)

    on_loop(die)()


@on_loop
async def test_a_death_before_the_new_process_is_launched_leaves_one_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with real_stage() as stage:
        await stage.make()
        (worker,) = stage.workers
        old, slot, launched = pid(worker), stage.slots.take(), []
        launch = worker._starter.launch

        async def slow() -> Launched:
            monkeypatch.setattr(worker._starter, "launch", launch)
            launched.append(await launch())
            os.kill(old, signal.SIGKILL)
            await replaced(worker)
            return launched[0]

        monkeypatch.setattr(worker._starter, "launch", slow)
        with pytest.raises(WorkerLost, match="died while it was renewed"):
            await worker.renew(slot)
        stage.slots.release(slot)
        assert worker.pid not in (old, launched[0].process.pid)
        assert not exists(launched[0].process.pid)
        assert worker._renewal is None
        await crosses(stage, "epair0")


@on_loop
async def test_a_worker_that_cannot_be_renewed_continues(program: Callable[[str], None]) -> None:
    async with real_stage() as stage:
        await stage.make()
        (worker,) = stage.workers
        before = worker.pid
        program("exit 3")
        with pytest.raises(WorkerLost, match="ended before it was ready: exit status 3"):
            await worker.renew(5)
        assert worker.pid == before
        assert worker.slot == 0
        await crosses(stage, "epair0")
        await stage.make("epair1")
        await crosses(stage, "epair1")


@pytest.mark.parametrize("moment_s", [None, 0, 0.001, 0.02, 0.05, 0.08, 0.1, 0.15])
def test_a_stop_at_any_moment_of_a_renewal_leaves_no_process(moment_s: float | None) -> None:
    async def stop() -> None:
        async with real_stage() as stage:
            for number in range(10):
                await stage.make(f"epair{number}")
            (worker,) = stage.workers
            slot = stage.slots.take()
            if moment_s is None:
                renewing, _ = await moving(worker, slot)
            else:
                renewing = asyncio.create_task(worker.renew(slot))
                await asyncio.sleep(moment_s)
            await worker.stop()
            with contextlib.suppress(WorkerLost):
                await renewing
            assert worker.state is WorkerState.STOPPED
            assert not has_children()
            stage.slots.release(slot)

    on_loop(stop)()


@on_loop
async def test_a_second_renewal_is_refused_and_the_first_completes() -> None:
    async with real_stage() as stage:
        await stage.make()
        (worker,) = stage.workers
        slot = stage.slots.take()
        renewing, _ = await moving(worker, slot)
        with pytest.raises(WorkerLost, match=r"^worker 0 cannot be renewed: it is draining$"):
            await worker.renew(7)
        await renewing
        assert (worker.state, worker.slot) == (WorkerState.READY, slot)
        await crosses(stage, "epair0")
        stage.slots.release(slot)


@on_loop
async def test_two_renewals_that_begin_at_once_leave_one_process() -> None:
    async with real_stage() as stage:
        await stage.make()
        (worker,) = stage.workers
        slots = stage.slots.take(), stage.slots.take()
        outcomes = await asyncio.gather(*map(worker.renew, slots), return_exceptions=True)
        assert sorted(map(type, outcomes), key=str) == sorted((type(None), WorkerLost), key=str)
        assert worker.slot == slots[outcomes.index(None)]
        await crosses(stage, "epair0")
        for slot in slots:
            stage.slots.release(slot)


@on_loop
async def test_a_cable_that_was_being_detached_is_detached_before_the_old_process_ends() -> None:
    async with real_stage() as stage:
        await stage.make()
        (worker,) = stage.workers
        assert await fill(stage)
        slot = stage.slots.take()
        detaching = asyncio.create_task(worker.detach("epair0", 3600))
        await turns()
        renewing = asyncio.create_task(worker.renew(slot))
        await eventually(lambda: worker.slot == slot)
        assert not detaching.done()
        while not detaching.done():
            stage.owner("epair0b").receives()
            await asyncio.sleep(0)
        await renewing
        found = balance(stage, "epair0a", "epair0b")
        assert (found["in flight"], found["lost"], found["write errors"]) == (0, 0, 0)
        assert found["arrived"] == found["read"]
        stage.slots.release(slot)


@on_loop
async def test_settings_that_change_while_it_is_renewed_reach_the_new_process() -> None:
    async with real_stage() as stage:
        await stage.make()
        (worker,) = stage.workers
        slot = stage.slots.take()
        renewing = asyncio.create_task(worker.renew(slot))
        await eventually(lambda: worker.state is WorkerState.RENEWING)
        await worker.tune(queue_limit=7, poll_spin_us=0, orphan_timeout=0)
        await renewing
        await full(stage)
        assert worker.reading().queue_frames == 7
        stage.slots.release(slot)
