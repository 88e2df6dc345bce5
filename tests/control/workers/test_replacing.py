"""Workers that die: no cable is lost, and every frame is accounted for."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from epaird.control.workers import starting
from epaird.control.workers.worker import Worker
from tests.control.stage import balance, real_stage
from tests.control.workers.staged import crosses, drained, fill, pid, replaced
from tests.loop import on_loop, turns
from tests.waiting import eventually

PAUSES_S = starting.BACKOFF_S


@on_loop
async def test_a_killed_worker_is_replaced_and_counters_continue() -> None:
    async with real_stage() as stage:
        await stage.make()
        (worker,) = stage.workers
        fds = worker.attachments["epair0"].fds
        for death in (1, 2):
            stage.owner("epair0a").sends(7)
            await drained(stage)
            cpu, before = worker.reading().cpu_seconds, pid(worker)
            os.kill(before, signal.SIGKILL)
            await replaced(worker, death)
            assert worker.pid != before
            assert worker.reading().cpu_seconds >= cpu
            assert worker.attachments["epair0"].fds == fds
        stage.owner("epair0a").sends(7)
        await drained(stage)
        assert balance(stage, "epair0a", "epair0b")["arrived"] == 21
        assert stage.lost == [0, 0]
        assert worker.reading().restarts == 2


@on_loop
async def test_only_cables_of_the_dead_worker_pause() -> None:
    async with real_stage(2) as stage:
        for number in range(2):
            stage.host.next_index = 10 + number
            await stage.make(f"epair{number}")
        dead, living = stage.workers
        os.kill(pid(dead), signal.SIGSTOP)
        await crosses(stage, "epair1")
        os.kill(pid(dead), signal.SIGKILL)
        await replaced(dead)
        await crosses(stage, "epair0")
        assert (dead.restarts, living.restarts) == (1, 0)


@on_loop
async def test_every_frame_has_a_fate_when_a_worker_dies_under_load() -> None:
    async with real_stage(queue_limit=40) as stage:
        await stage.make()
        a, b = stage.owner("epair0a"), stage.owner("epair0b")
        (worker,) = stage.workers
        for death in range(1, 9):
            for _ in range(40 * death):
                a.sends_all_it_can()
                b.sends_all_it_can()
                b.receives()
                if death % 2:
                    a.receives()
                await asyncio.sleep(0)
            os.kill(pid(worker), signal.SIGKILL)
            await replaced(worker, death)
        await drained(stage)
        found = [balance(stage, *direction) for direction in (("epair0a", "epair0b"), ("epair0b", "epair0a"))]
        assert [each["read"] for each in found] == [a.sent, b.sent]
        assert [each["arrived"] for each in found] == [len(b.received), len(a.received)]
        assert sum(each["lost"] for each in found) == a.sent + b.sent - len(a.received) - len(b.received)


@on_loop
async def test_frames_that_waited_in_a_dead_workers_queue_are_lost_and_counted() -> None:
    async with real_stage() as stage:
        await stage.make()
        waiting = await fill(stage)
        os.kill(pid(stage.workers[0]), signal.SIGKILL)
        await replaced(stage.workers[0])
        assert balance(stage, "epair0a", "epair0b")["lost"] == waiting
        stage.owner("epair0b").receives()
        await crosses(stage, "epair0")


@on_loop
async def test_requests_that_a_dead_worker_did_not_answer_pass_to_its_replacement() -> None:
    async with real_stage() as stage:
        await stage.make()
        await stage.make("epair1")
        await fill(stage)
        (worker,) = stage.workers
        os.kill(pid(worker), signal.SIGSTOP)
        detaching = asyncio.create_task(worker.detach("epair0", 3600))
        attaching = asyncio.create_task(stage.make("epair2"))
        resizing = asyncio.create_task(worker.resize("epair1", (9000, 9000)))
        await eventually(lambda: "epair2" in worker.attachments)
        await turns()
        assert not any(task.done() for task in (detaching, attaching, resizing))
        os.kill(pid(worker), signal.SIGKILL)
        await asyncio.gather(detaching, attaching, resizing)
        await replaced(worker)
        assert sorted(worker.attachments) == ["epair1", "epair2"]
        assert worker.attachments["epair1"].spec.mtus == (9000, 9000)
        await crosses(stage, "epair2")


@pytest.mark.parametrize("moment_s", [None, 0, 0.005, 0.02, 0.04, 0.06, 0.08])
def test_requests_while_there_is_no_process_are_carried_out_by_the_next(moment_s: float | None) -> None:
    """A cable attached twice would be forwarded twice, and its device never closed."""

    async def ask() -> None:
        async with real_stage() as stage:
            (worker,) = stage.workers
            await stage.make()
            leaving = await stage.make("epair1")
            os.kill(pid(worker), signal.SIGKILL)
            if moment_s is not None:
                await eventually(lambda: not worker.forwards)
                await asyncio.sleep(moment_s)
            resizing = asyncio.create_task(worker.resize("epair0", (9000, 1500)))
            making = asyncio.create_task(stage.make("epair2"))
            destroying = asyncio.create_task(stage.pairs.destroy(leaving))
            await asyncio.gather(resizing, making, destroying)
            await replaced(worker)
            assert sorted(worker.attachments) == ["epair0", "epair2"]
            assert worker.attachments["epair0"].spec.mtus == (9000, 1500)
            await crosses(stage, "epair2")
            with stage.owner("epair2b").watched() as device:
                await stage.pairs.destroy(making.result())
                assert device.closed_everywhere()

    on_loop(ask)()


@on_loop
async def test_a_replacement_that_dies_is_replaced(
    monkeypatch: pytest.MonkeyPatch, program: Callable[[str], None]
) -> None:
    async with real_stage() as stage:
        (worker,) = stage.workers
        await stage.make()
        right = sys.executable
        program("exit 3")
        os.kill(pid(worker), signal.SIGKILL)
        await eventually(lambda: worker.restarts >= 3)
        monkeypatch.setattr(sys, "executable", "/nonexistent/python")
        before = worker.restarts
        await eventually(lambda: worker.restarts >= before + 3)
        assert not worker.forwards
        monkeypatch.setattr(sys, "executable", right)
        await eventually(lambda: worker.forwards)
        await crosses(stage, "epair0")


@on_loop
async def test_the_pauses_grow_until_a_process_stays(
    monkeypatch: pytest.MonkeyPatch, program: Callable[[str], None]
) -> None:
    assert PAUSES_S[0] == 0
    assert list(PAUSES_S) == sorted(PAUSES_S)
    made: list[object] = []

    class Pauses(tuple[float, ...]):
        __slots__ = ()

        def __getitem__(self, which: object) -> Any:  # noqa: ANN401
            made.append(which)
            return 0.0

    monkeypatch.setattr(starting, "BACKOFF_S", Pauses((0.0, 0.0, 0.0)))
    async with real_stage() as stage:
        (worker,) = stage.workers
        right = sys.executable
        program("exit 3")
        os.kill(pid(worker), signal.SIGKILL)
        await eventually(lambda: len(made) >= 5)
        monkeypatch.setattr(sys, "executable", right)
        await eventually(lambda: worker.forwards)
        assert made[:5] == [0, 1, 2, 2, 2]
        monkeypatch.setattr(starting, "STAYED_S", 0.0)
        made.clear()
        os.kill(pid(worker), signal.SIGKILL)
        await replaced(worker, worker.restarts + 1)
        assert made == [0]


@on_loop
async def test_a_failure_to_settle_does_not_prevent_the_replacement(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_worker: Worker) -> None:
        raise ZeroDivisionError

    async with real_stage() as stage:
        monkeypatch.setattr(stage.pairs, "settle", fail)
        os.kill(pid(stage.workers[0]), signal.SIGKILL)
        await replaced(stage.workers[0])
        assert "internal error: settling worker 0 failed" in caplog.messages


@on_loop
async def test_a_death_by_any_signal_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with real_stage() as stage:
        (worker,) = stage.workers
        for death, (number, name) in enumerate([(signal.SIGKILL, "SIGKILL"), (36, "signal 36")], 1):
            last = pid(worker)
            os.kill(last, number)
            await replaced(worker, death)
            assert f"worker 0 (pid {last}) ended: killed by {name}; starting another" in caplog.messages
