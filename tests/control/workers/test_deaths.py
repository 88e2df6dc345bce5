"""Workers that die: no cable is lost, and every frame is accounted for."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from epaird.control.workers import worker as workers
from epaird.control.workers.processes import Spares
from epaird.control.workers.worker import Worker, WorkerLost
from tests.control.stage import balance, real_stage
from tests.control.workers.staged import crosses, drained, fill, idle, nothing, pid, replaced
from tests.loop import has_children, on_loop, turns
from tests.waiting import eventually

PAUSES_S = workers.BACKOFF_S


# Dying.


@on_loop
async def test_a_killed_worker_is_replaced_and_counters_go_on() -> None:
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
        letting_go = asyncio.create_task(worker.detach("epair0", 3600))
        attaching = asyncio.create_task(stage.make("epair2"))
        resizing = asyncio.create_task(worker.resize("epair1", (9000, 9000)))
        await eventually(lambda: "epair2" in worker.attachments)
        await turns()
        assert not any(task.done() for task in (letting_go, attaching, resizing))
        os.kill(pid(worker), signal.SIGKILL)
        await asyncio.gather(letting_go, attaching, resizing)
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
                assert device.let_go()

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

    monkeypatch.setattr(workers, "BACKOFF_S", Pauses((0.0, 0.0, 0.0)))
    async with real_stage() as stage:
        (worker,) = stage.workers
        right = sys.executable
        program("exit 3")
        os.kill(pid(worker), signal.SIGKILL)
        await eventually(lambda: len(made) >= 5)
        monkeypatch.setattr(sys, "executable", right)
        await eventually(lambda: worker.forwards)
        assert made[:5] == [0, 1, 2, 2, 2]
        monkeypatch.setattr(workers, "STAYED_S", 0.0)
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
        assert "settling worker 0 failed, which is a bug of ours" in caplog.messages


@on_loop
async def test_a_death_by_any_signal_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with real_stage() as stage:
        (worker,) = stage.workers
        for death, (number, name) in enumerate([(signal.SIGKILL, "SIGKILL"), (36, "signal 36")], 1):
            last = pid(worker)
            os.kill(last, number)
            await replaced(worker, death)
            assert f"worker 0 (pid {last}) ended: killed by {name}; starting another" in caplog.messages


# Dying while it starts or stops.


@on_loop
async def test_a_process_that_ends_before_it_is_ready_fails_the_start(
    program: Callable[[str], None],
) -> None:
    program("exit 3")
    with pytest.raises(WorkerLost, match=r"^worker 0 ended before it took orders: exit status 3$"):
        async with real_stage():
            pass


@on_loop
async def test_a_silent_process_is_killed_and_fails_the_start(
    monkeypatch: pytest.MonkeyPatch, program: Callable[[str], None]
) -> None:
    monkeypatch.setattr(workers, "STARTING_S", 0.05)
    program("exec sleep 1000")
    said = r"^worker 0 \(pid \d+\) took no orders within 0.05 s and was killed$"
    with pytest.raises(WorkerLost, match=said):
        async with real_stage():
            pass


@on_loop
async def test_silent_replacements_are_killed_and_replaced(
    monkeypatch: pytest.MonkeyPatch, program: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    async with real_stage() as stage:
        (worker,) = stage.workers
        await stage.make()
        monkeypatch.setattr(workers, "STARTING_S", 0.01)
        right = sys.executable
        program("exec sleep 1000")
        os.kill(pid(worker), signal.SIGKILL)
        await eventually(lambda: worker.restarts >= 3)
        monkeypatch.setattr(sys, "executable", right)
        before = worker.restarts
        # One more silent process is on its way: it, too, has only as long as the others.
        await eventually(lambda: worker.restarts > before or worker.forwards)
        monkeypatch.setattr(workers, "STARTING_S", 5.0)
        await eventually(lambda: worker.forwards)
        await crosses(stage, "epair0")
    patiences = [message.split()[8] for message in caplog.messages if "took no orders" in message]
    assert patiences[:2] == ["0.01", "0.02"], "each has twice as long, up to a point"


@on_loop
async def test_a_silent_spare_is_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers, "SPARE_STARTING_S", 0.05)
    spares = Spares()
    async with real_stage() as stage:
        (worker,) = stage.workers
        await stage.make()
        monkeypatch.setattr(worker, "_spares", spares)
        spares.keep()
        await eventually(lambda: spares.pid is not None)
        spare = spares.pid
        assert spare is not None
        os.kill(spare, signal.SIGSTOP)
        os.kill(pid(worker), signal.SIGKILL)
        await replaced(worker, 2)
        await crosses(stage, "epair0")
        said = f"worker 0 (pid {spare}) took no orders within 0.05 s and was killed; starting another"
        assert said in caplog.messages
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
    monkeypatch.setattr(workers, "ENDING_S", 0.05)
    close_and_stay = "import os, sys, time; os.close(int(sys.argv[1])); time.sleep(1000)"
    program(f"exec {sys.executable} -c '{close_and_stay}' $4")
    with pytest.raises(WorkerLost, match="ended before it took orders: killed by SIGKILL"):
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
    monkeypatch.setattr(workers, "BACKOFF_S", (3600.0,))
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
    monkeypatch.setattr(workers, "ENDING_S", 0.05)
    async with real_stage() as stage:
        await stage.make()
        (worker,) = stage.workers
        os.kill(pid(worker), signal.SIGSTOP)
        letting_go = asyncio.create_task(worker.detach("epair0", 3600))
        await turns()
        await worker.stop()
        await letting_go
        assert not has_children()


@on_loop
async def test_stopping_twice_and_stopping_an_idle_worker_do_nothing() -> None:
    async with real_stage() as stage:
        await stage.workers[0].stop()
        await stage.workers[0].stop()
        await idle(stage).stop()
