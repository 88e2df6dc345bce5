"""Worker processes: real ones, forwarding between socketpairs, killed at every bad moment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from epaird import ledger
from epaird.control.workforce import workers
from epaird.control.workforce.workers import Attachment, Worker, WorkerLost, WorkerRefused
from tests.control.fake import numbered
from tests.control.stage import Stage, balance, real_stage
from tests.loop import has_children, on_loop, turns, until

PAUSES_S = workers.BACKOFF_S


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "BACKOFF_S", (0.0, 0.01))


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Puts a shell script in the place of every process started from now on."""

    def put(script: str) -> None:
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(sys, "executable", str(path))

    return put


def pid(worker: Worker) -> int:
    assert worker.pid is not None
    return worker.pid


def open_files(process: int) -> list[str]:
    return [str(each.readlink()) for each in Path(f"/proc/{process}/fd").iterdir()]


def idle(stage: Stage[Worker]) -> Worker:
    """A worker that has not been started."""
    gone, lost = stage.pairs.gone, stage.pairs.worker_lost
    return Worker(7, stage.table, 7, queue_limit=1, poll_spin_us=0, gone=gone, lost=lost)


def nothing(cable: str) -> Attachment:
    """A cable that is none."""
    return Attachment(cable, ("a", "b"), (0, 0), (1, 2), (1500, 1500), coalesce=False)


async def replaced(worker: Worker, times: int = 1) -> None:
    """Wait until a worker that died forwards again."""
    await until(lambda: worker.restarts >= times and worker.forwards)


async def crosses(stage: Stage[Worker], pair: str) -> None:
    """A frame crosses a pair."""
    before = len(stage.owner(f"{pair}b").receives())
    stage.owner(f"{pair}a").sends()
    await until(lambda: len(stage.owner(f"{pair}b").receives()) > before)


async def fill(stage: Stage[Worker]) -> int:
    """Have ``epair0a`` send and the other end not receive, until frames wait; how many do."""
    owner, words = stage.owner("epair0a"), stage.words("epair0a")
    while stage.workers[0].reading().queue_frames < 2:
        with contextlib.suppress(BlockingIOError):
            owner.sends(3)
        await asyncio.sleep(0.001)
    await until(lambda: owner.taken == owner.sent == words[ledger.OPACKETS])
    return stage.words("epair0b")[ledger.IN_FLIGHT]


async def drained(stage: Stage[Worker]) -> None:
    """Let both owners receive until everything that was sent has met its fate."""

    def done(device: str, peer: str) -> bool:
        owner = stage.owner(device)
        owner.receives()
        read = stage.words(device)[ledger.OPACKETS] == owner.taken == owner.sent
        return read and not stage.words(peer)[ledger.IN_FLIGHT]

    await until(lambda: done("epair0a", "epair0b") & done("epair0b", "epair0a"))


# A worker's life.


@on_loop
async def test_a_worker_is_alive_and_has_a_process_until_it_is_stopped() -> None:
    async with real_stage(2) as stage:
        assert len({pid(worker) for worker in stage.workers}) == 2
        await until(lambda: all(worker.reading().alive for worker in stage.workers))
        assert [worker.reading().worker for worker in stage.workers] == ["0", "1"]
        assert [worker.reading().restarts for worker in stage.workers] == [0, 0]
        assert all(worker.reading().cpu_seconds > 0 for worker in stage.workers)
    assert not has_children()


@on_loop
async def test_frames_cross_in_order_and_are_counted() -> None:
    async with real_stage() as stage:
        await stage.make()
        a, b = stage.owner("epair0a"), stage.owner("epair0b")
        for count in (1, 5, 9):
            a.sends(count)
            b.sends(1)
            await drained(stage)
        assert b.received == [numbered(number) for number in range(15)]
        assert balance(stage, "epair0a", "epair0b")["arrived"] == 15
        assert balance(stage, "epair0b", "epair0a")["arrived"] == 3
        assert stage.reading("epair0a").obytes == 15 * 54


@on_loop
async def test_workers_have_their_own_cables() -> None:
    async with real_stage(2) as stage:
        for number in range(4):
            stage.host.next_index = 10 + number
            await stage.make(f"epair{number}")
        for number in range(4):
            await crosses(stage, f"epair{number}")
        assert [sorted(worker.attachments) for worker in stage.workers] == [
            ["epair0", "epair2"],
            ["epair1", "epair3"],
        ]


@pytest.mark.real
@on_loop
async def test_a_worker_has_no_descriptor_that_was_not_meant_for_it() -> None:
    """Between a device's opening and its being made close-on-exec a worker may be started."""
    fd = os.open("/dev/zero", os.O_RDONLY)
    os.set_inheritable(fd, True)
    try:
        async with real_stage(3) as stage:
            files = [file for worker in stage.workers for file in open_files(pid(worker))]
            assert "/dev/zero" not in files
            sockets = [file for file in files if file.startswith("socket:")]
            assert len(sockets) == len(set(sockets)), "one end of a socketpair in two processes"
    finally:
        os.close(fd)


# Letting go.


@on_loop
async def test_letting_go_waits_for_the_frames_in_flight() -> None:
    async with real_stage() as stage:
        await stage.make()
        assert await fill(stage)
        b = stage.owner("epair0b")
        going = asyncio.create_task(stage.workers[0].detach("epair0", 3600))
        while not going.done():
            b.receives()
            await asyncio.sleep(0)
        found = balance(stage, "epair0a", "epair0b")
        assert (found["in flight"], found["lost"], found["write errors"]) == (0, 0, 0)
        assert b.receives() == [numbered(number) for number in range(found["read"])]


@on_loop
async def test_a_receiver_that_takes_nothing_is_given_up_and_its_frames_are_counted() -> None:
    async with real_stage() as stage:
        await stage.make()
        waiting = await fill(stage)
        await stage.workers[0].detach("epair0", 0.05)
        found = balance(stage, "epair0a", "epair0b")
        assert found["write errors"] == waiting > 0
        assert found["in flight"] == 0


@on_loop
async def test_a_cable_on_the_drain_list_can_be_let_go() -> None:
    async with real_stage(queue_limit=2) as stage:
        await stage.make()
        (worker,) = stage.workers
        sender = stage.words("epair0a")
        while not sender[ledger.LISTED]:
            stage.owner("epair0a").sends_all_it_can()
            await asyncio.sleep(0.001)
        assert (worker.reading().oactive, worker.reading().drain_list) == (True, 1)
        await worker.detach("epair0", 0.05)
        assert (sender[ledger.LISTED], sender[ledger.OACTIVE]) == (0, 0)
        assert (worker.reading().drain_list, worker.reading().queue_frames) == (0, 0)


@on_loop
async def test_what_is_not_attached_is_let_go_at_once() -> None:
    async with real_stage() as stage:
        await stage.workers[0].detach("epair7", 1)
        await stage.workers[0].resize("epair7", (1500, 1500))


@on_loop
async def test_a_device_that_vanishes_is_told_and_its_pair_taken_down() -> None:
    async with real_stage() as stage:
        await stage.make()
        await stage.make("epair1")
        stage.owner("epair0b").vanish()
        await until(lambda: [pair.name for pair in stage.pairs] == ["epair1"])
        await crosses(stage, "epair1")


@on_loop
async def test_no_worker_keeps_a_device_that_was_destroyed() -> None:
    async with real_stage(2) as stage:
        for _ in range(3):
            pair = await stage.make()
            with stage.owner("epair0a").watched() as a, stage.owner("epair0b").watched() as b:
                await stage.pairs.destroy(pair)
                assert a.let_go()
                assert b.let_go()


@on_loop
async def test_a_larger_mtu_lets_larger_frames_pass() -> None:
    async with real_stage() as stage:
        await stage.make()
        jumbo = numbered(0).ljust(3008, b"\0")
        for device in ("epair0a", "epair0b"):
            stage.host.tell(stage.host.event(device, mtu=9000))
        await stage.workers[0].resize("epair0", (9000, 9000))
        os.write(stage.owner("epair0a").end.fileno(), jumbo)
        await until(lambda: jumbo in stage.owner("epair0b").receives())


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
async def test_only_the_dead_workers_cables_pause() -> None:
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
async def test_requests_a_dead_worker_did_not_answer_are_its_successors_or_done() -> None:
    async with real_stage() as stage:
        await stage.make()
        await stage.make("epair1")
        await fill(stage)
        (worker,) = stage.workers
        os.kill(pid(worker), signal.SIGSTOP)
        letting_go = asyncio.create_task(worker.detach("epair0", 3600))
        attaching = asyncio.create_task(stage.make("epair2"))
        resizing = asyncio.create_task(worker.resize("epair1", (9000, 9000)))
        await until(lambda: "epair2" in worker.attachments)
        await turns()
        assert not any(task.done() for task in (letting_go, attaching, resizing))
        os.kill(pid(worker), signal.SIGKILL)
        await asyncio.gather(letting_go, attaching, resizing)
        await replaced(worker)
        assert sorted(worker.attachments) == ["epair1", "epair2"]
        assert worker.attachments["epair1"].mtus == (9000, 9000)
        await crosses(stage, "epair2")


@pytest.mark.parametrize("moment_s", [None, 0, 0.005, 0.02, 0.04, 0.06, 0.08])
def test_what_is_asked_while_there_is_no_process_is_done_by_the_next(moment_s: float | None) -> None:
    """A cable attached twice would be forwarded twice, and its device never let go."""

    async def ask() -> None:
        async with real_stage() as stage:
            (worker,) = stage.workers
            await stage.make()
            leaving = await stage.make("epair1")
            os.kill(pid(worker), signal.SIGKILL)
            if moment_s is not None:
                await until(lambda: not worker.forwards)
                await asyncio.sleep(moment_s)
            resizing = asyncio.create_task(worker.resize("epair0", (9000, 1500)))
            making = asyncio.create_task(stage.make("epair2"))
            destroying = asyncio.create_task(stage.pairs.destroy(leaving))
            await asyncio.gather(resizing, making, destroying)
            await replaced(worker)
            assert sorted(worker.attachments) == ["epair0", "epair2"]
            assert worker.attachments["epair0"].mtus == (9000, 1500)
            await crosses(stage, "epair2")
            with stage.owner("epair2b").watched() as device:
                await stage.pairs.destroy(making.result())
                assert device.let_go()

    on_loop(ask)()


@on_loop
async def test_a_successor_that_dies_as_well_has_a_successor(
    monkeypatch: pytest.MonkeyPatch, program: Callable[[str], None]
) -> None:
    async with real_stage() as stage:
        (worker,) = stage.workers
        await stage.make()
        right = sys.executable
        program("exit 3")
        os.kill(pid(worker), signal.SIGKILL)
        await until(lambda: worker.restarts >= 3)
        monkeypatch.setattr(sys, "executable", "/nonexistent/python")
        before = worker.restarts
        await until(lambda: worker.restarts >= before + 3)
        assert not worker.forwards
        monkeypatch.setattr(sys, "executable", right)
        await until(lambda: worker.forwards)
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
        await until(lambda: len(made) >= 5)
        monkeypatch.setattr(sys, "executable", right)
        await until(lambda: worker.forwards)
        assert made[:5] == [0, 1, 2, 2, 2]
        monkeypatch.setattr(workers, "STAYED_S", 0.0)
        made.clear()
        os.kill(pid(worker), signal.SIGKILL)
        await replaced(worker, worker.restarts + 1)
        assert made == [0]


@on_loop
async def test_a_failure_to_settle_does_not_keep_the_successor_from_starting(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_worker: Worker) -> None:
        raise ZeroDivisionError

    async with real_stage() as stage:
        monkeypatch.setattr(stage.pairs, "worker_lost", fail)
        os.kill(pid(stage.workers[0]), signal.SIGKILL)
        await replaced(stage.workers[0])
        assert "settling worker 0 failed, which is a bug of ours" in caplog.messages


@on_loop
async def test_a_death_by_any_signal_is_said(caplog: pytest.LogCaptureFixture) -> None:
    async with real_stage() as stage:
        (worker,) = stage.workers
        for death, (number, name) in enumerate([(signal.SIGKILL, "SIGKILL"), (36, "signal 36")], 1):
            last = pid(worker)
            os.kill(last, number)
            await replaced(worker, death)
            assert f"worker 0 (pid {last}) ended: killed by {name}; starting another" in caplog.messages


# Dying while it starts or stops.


@on_loop
async def test_a_process_that_ends_before_it_takes_orders_is_an_error_of_the_start(
    program: Callable[[str], None],
) -> None:
    program("exit 3")
    with pytest.raises(WorkerLost, match=r"^worker 0 ended before it took orders: exit status 3$"):
        async with real_stage():
            pass


@on_loop
async def test_a_process_that_cannot_be_started_is_an_error_of_the_start(
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
    # What succeeds only once is done by the first.
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
async def test_a_stop_during_the_pause_before_a_replacement_is_not_held_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "BACKOFF_S", (3600.0,))
    async with real_stage() as stage:
        (worker,) = stage.workers
        os.kill(pid(worker), signal.SIGKILL)
        await until(lambda: stage.lost)
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
async def test_stopping_twice_and_stopping_what_never_started_are_nothing() -> None:
    async with real_stage() as stage:
        await stage.workers[0].stop()
        await stage.workers[0].stop()
        await idle(stage).stop()


# Refusing.


@on_loop
async def test_what_a_worker_refuses_is_told_and_not_kept() -> None:
    async with real_stage() as stage:
        await stage.make()
        (worker,) = stage.workers
        had = worker.attachments["epair0"]
        with pytest.raises(WorkerRefused, match=r"^epair0: is attached already$"):
            await worker.attach(had)
        assert not worker.attachments
        worker.attachments["epair7"] = had
        with pytest.raises(WorkerRefused, match=r"^epair7 is not attached$"):
            await worker.detach("epair7", 1)
        worker.attachments["epair0"] = had


@on_loop
async def test_a_worker_without_room_for_a_device_says_so(program: Callable[[str], None]) -> None:
    program(f'ulimit -n 40; exec {sys.executable} "$@"')

    async def make_many() -> None:
        while True:
            await stage.make(f"epair{len(stage.pairs)}")

    async with real_stage() as stage:
        with pytest.raises(WorkerRefused, match=r"epair[0-9]+: too many files are open"):
            await make_many()
        assert len(stage.pairs)
        await crosses(stage, "epair0")


@on_loop
async def test_a_successor_with_less_room_forwards_what_it_can(
    caplog: pytest.LogCaptureFixture, program: Callable[[str], None]
) -> None:
    async with real_stage() as stage:
        (worker,) = stage.workers
        for number in range(20):
            await stage.make(f"epair{number}")
        program(f'ulimit -n 40; exec {sys.executable} "$@"')
        os.kill(pid(worker), signal.SIGKILL)
        await until(lambda: worker.forwards and len(worker.attachments) < 20)
        refused = [f"epair{number}" for number in range(20) if f"epair{number}" not in worker.attachments]
        said = "worker 0: {0} is not forwarded any more: {0}: too many files are open"
        assert caplog.messages[1:] == [said.format(cable) for cable in refused]
        await crosses(stage, "epair0")


# Renewing.


def is_there(process: int) -> bool:
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
            assert not is_there(before)
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
async def test_what_is_asked_while_it_is_renewed_is_done_once() -> None:
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
            going = next(pair for pair in stage.pairs if pair.name == f"epair{number - 20}")
            with stage.owner(f"{going.name}b").watched() as device:
                await stage.pairs.destroy(going)
                assert device.let_go()
            number += 1
        await renewing
        assert sorted(worker.attachments) == sorted(pair.name for pair in stage.pairs)
        for pair in stage.pairs:
            await crosses(stage, pair.name)
        stage.slots.release(slot)


@pytest.mark.parametrize("which", ["the one that goes", "the one that comes"])
def test_a_death_while_it_is_renewed_is_one_of_the_worker(which: str) -> None:
    async def die() -> None:
        async with real_stage() as stage:
            for number in range(30):
                await stage.make(f"epair{number}")
            (worker,) = stage.workers
            stage.owner("epair0a").sends(5)
            slot, goes = stage.slots.take(), pid(worker)
            renewing = asyncio.create_task(worker.renew(slot))
            await until(lambda: worker._handed_over)
            comes = worker._next
            assert comes is not None
            os.kill(goes if which == "the one that goes" else comes.pid, signal.SIGKILL)
            with pytest.raises(WorkerLost):
                await renewing
            await replaced(worker)
            assert not is_there(comes.pid)
            assert not is_there(goes)
            await crosses(stage, "epair0")
            await crosses(stage, "epair29")
            await drained(stage)
            balance(stage, "epair0a", "epair0b")
            stage.slots.release(slot)

    on_loop(die)()


@on_loop
async def test_a_worker_that_cannot_be_renewed_goes_on(program: Callable[[str], None]) -> None:
    async with real_stage() as stage:
        await stage.make()
        (worker,) = stage.workers
        before = worker.pid
        program("exit 3")
        with pytest.raises(WorkerLost, match="ended before it took orders: exit status 3"):
            await worker.renew(5)
        assert worker.pid == before
        assert worker.slot == 0
        await crosses(stage, "epair0")
        await stage.make("epair1")
        await crosses(stage, "epair1")
