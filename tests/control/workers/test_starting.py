"""Processes that die, hang or cannot be started, and workers that are stopped meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from epaird.control.workers import starting
from epaird.control.workers.processes import Spares
from epaird.control.workers.states import WorkerState
from epaird.control.workers.worker import WorkerLost
from tests.control.stage import real_stage
from tests.control.workers.staged import crosses, full, idle, nothing, pid, replaced
from tests.loop import has_children, on_loop, turns
from tests.waiting import eventually


@on_loop
async def test_a_process_that_ends_before_it_is_ready_fails_the_start(
    program: Callable[[str], None],
) -> None:
    program("exit 3")
    with pytest.raises(WorkerLost, match=r"^worker 0 ended before it was ready: exit status 3$"):
        async with real_stage():
            pass


@on_loop
async def test_a_silent_process_is_killed_and_fails_the_start(
    monkeypatch: pytest.MonkeyPatch, program: Callable[[str], None]
) -> None:
    monkeypatch.setattr(starting, "STARTING_S", 0.05)
    program("exec sleep 1000")
    message = r"^worker 0 \(pid \d+\) was not ready within 0.05 s and was killed$"
    with pytest.raises(WorkerLost, match=message):
        async with real_stage():
            pass


@on_loop
async def test_silent_replacements_are_killed_and_replaced(
    monkeypatch: pytest.MonkeyPatch, program: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    async with real_stage() as stage:
        (worker,) = stage.workers
        await stage.make()
        monkeypatch.setattr(starting, "STARTING_S", 0.01)
        right = sys.executable
        program("exec sleep 1000")
        os.kill(pid(worker), signal.SIGKILL)
        await eventually(lambda: worker.restarts >= 3)
        monkeypatch.setattr(sys, "executable", right)
        before = worker.restarts
        # One more silent process is on its way: it, too, has only as long as the others.
        await eventually(lambda: worker.restarts > before or worker.forwards)
        monkeypatch.setattr(starting, "STARTING_S", 5.0)
        await eventually(lambda: worker.forwards)
        await crosses(stage, "epair0")
    patiences = [message.split()[8] for message in caplog.messages if "was not ready" in message]
    assert patiences[:2] == ["0.01", "0.02"], "each has twice as long, up to a point"


@on_loop
async def test_a_silent_spare_is_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(starting, "SPARE_STARTING_S", 0.05)
    spares = Spares()
    async with real_stage() as stage:
        (worker,) = stage.workers
        await stage.make()
        monkeypatch.setattr(worker._starter, "_spares", spares)
        spares.keep()
        await eventually(lambda: spares.pid is not None)
        spare = spares.pid
        assert spare is not None
        os.kill(spare, signal.SIGSTOP)
        os.kill(pid(worker), signal.SIGKILL)
        await replaced(worker, 2)
        await crosses(stage, "epair0")
        message = f"worker 0 (pid {spare}) was not ready within 0.05 s and was killed; starting another"
        assert message in caplog.messages
        await spares.stop()


@on_loop
async def test_a_process_that_cannot_be_launched_fails_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(WorkerLost, match=r"^worker 0 cannot be started: .*No such file or directory"):
        async with real_stage():
            pass


@on_loop
async def test_a_process_that_closes_its_end_and_stays_is_killed(
    monkeypatch: pytest.MonkeyPatch, program: Callable[[str], None]
) -> None:
    monkeypatch.setattr(starting, "ENDING_S", 0.05)
    close_and_stay = "import os, sys, time; os.close(int(sys.argv[1])); time.sleep(1000)"
    program(f"exec {sys.executable} -c '{close_and_stay}' $4")
    with pytest.raises(WorkerLost, match="ended before it was ready: killed by SIGKILL"):
        async with real_stage():
            pass


@on_loop
async def test_one_of_several_that_does_not_start_leaves_none_running(program: Callable[[str], None]) -> None:
    # mkdir succeeds for the first process only.
    program(f'mkdir "$0.first" 2>/dev/null && exit 3; exec {sys.executable} "$@"')
    with pytest.raises(WorkerLost):
        async with real_stage(4):
            pass
    assert not has_children()


MOMENTS_S = (None, 0, 0.001, 0.005, 0.02, 0.05, 0.08)


@on_loop
async def test_a_start_can_be_cancelled_at_any_time() -> None:
    for moment_s in MOMENTS_S:
        async with real_stage(0) as stage:
            worker = idle(stage)
            starting = asyncio.create_task(worker.start())
            if moment_s is not None:
                await asyncio.sleep(moment_s)
            starting.cancel()
            await asyncio.wait((starting,))
            await worker.stop()
            assert not has_children()


@on_loop
async def test_stopping_a_dead_worker_starts_no_other() -> None:
    for moment_s in MOMENTS_S:
        async with real_stage() as stage:
            os.kill(pid(stage.workers[0]), signal.SIGKILL)
            if moment_s is not None:
                await asyncio.sleep(moment_s)
        assert not has_children()
        await turns(10)
        assert not has_children()


@on_loop
async def test_a_stop_does_not_wait_for_the_pause_before_a_replacement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(starting, "BACKOFF_S", (3600.0,))
    async with real_stage() as stage:
        (worker,) = stage.workers
        os.kill(pid(worker), signal.SIGKILL)
        await eventually(lambda: stage.lost)
        attaching = asyncio.create_task(worker.attach(nothing("epair9")))
        await turns()
        await worker.stop()
        with pytest.raises(WorkerLost):
            await attaching
        assert not worker.attachments


@on_loop
async def test_a_stopped_process_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "ENDING_S", 0.05)
    async with real_stage() as stage:
        await stage.make()
        (worker,) = stage.workers
        os.kill(pid(worker), signal.SIGSTOP)
        detaching = asyncio.create_task(worker.detach("epair0", 3600))
        await turns()
        await worker.stop()
        await detaching
        assert not has_children()


@on_loop
async def test_stopping_twice_and_stopping_an_idle_worker_do_nothing() -> None:
    async with real_stage() as stage:
        await stage.workers[0].stop()
        await stage.workers[0].stop()
        await idle(stage).stop()


@on_loop
async def test_settings_that_change_while_a_process_starts_reach_it() -> None:
    async with real_stage() as stage:
        await stage.make()
        (worker,) = stage.workers
        before = pid(worker)
        os.kill(before, signal.SIGKILL)
        await eventually(lambda: worker.pid != before)
        assert worker.state is WorkerState.SPAWNING, "it has its first settings and is not ready"
        await worker.tune(queue_limit=7, poll_spin_us=0, orphan_timeout=0)
        await replaced(worker)
        await full(stage)
        assert worker.reading().queue_frames == 7


@on_loop
async def test_a_worker_that_is_being_replaced_is_not_started_twice() -> None:
    """An adopted process may die before the daemon starts the workers that have none."""
    async with real_stage() as stage:
        await stage.make()
        (worker,) = stage.workers
        os.kill(pid(worker), signal.SIGKILL)
        await eventually(lambda: not worker.forwards)
        await worker.start()
        assert worker.forwards
        assert children() == [pid(worker)]
        await crosses(stage, "epair0")


@on_loop
async def test_a_start_that_waits_for_a_replacement_ends_with_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(starting, "BACKOFF_S", (3600.0,))
    async with real_stage() as stage:
        (worker,) = stage.workers
        os.kill(pid(worker), signal.SIGKILL)
        await eventually(lambda: not worker.forwards)
        start = asyncio.create_task(worker.start())
        await turns()
        await worker.stop()
        with pytest.raises(WorkerLost, match=r"^worker 0 is not running$"):
            await start


def children() -> list[int]:
    """Process ids of the children of this process."""
    text = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
    return [int(each) for each in text.split()]
