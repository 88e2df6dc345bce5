"""Workers with real processes, which forward between socketpairs."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable

import pytest

from epaird.control.workers.attachment import WorkerLost
from epaird.control.workers.worker import WorkerRefused
from epaird.ipc import counters
from tests.control.fakeowner import numbered
from tests.control.stage import balance, real_stage
from tests.control.workers.staged import crosses, drained, fill, open_files, pid
from tests.loop import has_children, on_loop, turns
from tests.waiting import eventually

LACKING = "too many open files: its worker may have 40: raise LimitNOFILE= of the service"

# Forwarding.


@on_loop
async def test_a_worker_is_alive_and_has_a_process_until_it_is_stopped() -> None:
    async with real_stage(2) as stage:
        assert len({pid(worker) for worker in stage.workers}) == 2
        await eventually(lambda: all(worker.reading().alive for worker in stage.workers))
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
        assert stage.reading("epair0a").stats.obytes == 15 * 54


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
    """A worker may be started after a device is opened and before it is close-on-exec."""
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


# Detaching.


@on_loop
async def test_detaching_waits_for_the_frames_in_flight() -> None:
    async with real_stage() as stage:
        await stage.make()
        assert await fill(stage)
        b = stage.owner("epair0b")
        detaching = asyncio.create_task(stage.workers[0].detach("epair0", 3600))
        while not detaching.done():
            b.receives()
            await asyncio.sleep(0)
        found = balance(stage, "epair0a", "epair0b")
        assert (found["in flight"], found["lost"], found["write errors"]) == (0, 0, 0)
        assert b.receives() == [numbered(number) for number in range(found["read"])]


@on_loop
async def test_frames_for_a_receiver_that_takes_nothing_are_dropped_and_counted() -> None:
    async with real_stage() as stage:
        await stage.make()
        waiting = await fill(stage)
        await stage.workers[0].detach("epair0", 0.05)
        found = balance(stage, "epair0a", "epair0b")
        assert found["write errors"] == waiting > 0
        assert found["in flight"] == 0


@on_loop
async def test_a_cable_on_the_drain_list_can_be_detached() -> None:
    async with real_stage(queue_limit=2) as stage:
        await stage.make()
        (worker,) = stage.workers
        sender = stage.words("epair0a")
        while not sender[counters.LISTED]:
            stage.owner("epair0a").sends_all_it_can()
            await asyncio.sleep(0.001)
        assert (worker.reading().oactive, worker.reading().drain_list) == (True, 1)
        await worker.detach("epair0", 0.05)
        assert (sender[counters.LISTED], sender[counters.OACTIVE]) == (0, 0)
        assert (worker.reading().drain_list, worker.reading().queue_frames) == (0, 0)


@on_loop
async def test_detaching_an_unknown_cable_does_nothing() -> None:
    async with real_stage() as stage:
        await stage.workers[0].detach("epair7", 1)
        await stage.workers[0].resize("epair7", (1500, 1500))


@on_loop
async def test_a_device_that_vanishes_is_reported_and_its_pair_destroyed() -> None:
    async with real_stage() as stage:
        await stage.make()
        await stage.make("epair1")
        stage.owner("epair0b").vanish()
        await eventually(lambda: [pair.name for pair in stage.pairs] == ["epair1"])
        await crosses(stage, "epair1")


@on_loop
async def test_no_worker_keeps_a_device_that_was_destroyed() -> None:
    async with real_stage(2) as stage:
        for _ in range(3):
            pair = await stage.make()
            with stage.owner("epair0a").watched() as a, stage.owner("epair0b").watched() as b:
                await stage.pairs.destroy(pair)
                assert a.closed_everywhere()
                assert b.closed_everywhere()


@on_loop
async def test_a_larger_mtu_lets_larger_frames_pass() -> None:
    async with real_stage() as stage:
        await stage.make()
        jumbo = numbered(0).ljust(3008, b"\0")
        for device in ("epair0a", "epair0b"):
            stage.host.report(stage.host.event(device, mtu=9000))
        await stage.workers[0].resize("epair0", (9000, 9000))
        os.write(stage.owner("epair0a").end.fileno(), jumbo)
        await eventually(lambda: jumbo in stage.owner("epair0b").receives())


# Refusing.


@on_loop
async def test_a_refused_cable_is_not_kept() -> None:
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
async def test_a_worker_without_free_descriptors_refuses_a_cable(program: Callable[[str], None]) -> None:
    program(f'ulimit -n 40; exec {sys.executable} "$@"')

    async def make_many() -> None:
        while True:
            await stage.make(f"epair{len(stage.pairs)}")

    async with real_stage() as stage:
        with pytest.raises(WorkerRefused, match=rf"epair[0-9]+: {LACKING}"):
            await make_many()
        assert len(stage.pairs)
        await crosses(stage, "epair0")


@on_loop
async def test_a_replacement_with_fewer_descriptors_forwards_what_it_can(
    caplog: pytest.LogCaptureFixture, program: Callable[[str], None]
) -> None:
    async with real_stage() as stage:
        (worker,) = stage.workers
        for number in range(20):
            await stage.make(f"epair{number}")
        program(f'ulimit -n 40; exec {sys.executable} "$@"')
        os.kill(pid(worker), signal.SIGKILL)
        await eventually(lambda: worker.forwards and len(worker.attachments) < 20)
        refused = [f"epair{number}" for number in range(20) if f"epair{number}" not in worker.attachments]
        lines = [f"worker 0: {each} is not forwarded any more: {each}: {LACKING}" for each in refused]
        assert caplog.messages[1:] == lines
        await crosses(stage, "epair0")


@pytest.mark.real
@on_loop
async def test_processes_that_are_given_up_are_not_replaced(caplog: pytest.LogCaptureFixture) -> None:
    """Neither one that forwards, nor one that is being started."""
    async with real_stage() as stage:
        (worker,) = stage.workers
        before = pid(worker)
        worker.kill_all()
        link = worker._link
        assert link is not None
        await eventually(lambda: not link.running)
        await turns()
        assert worker.pid == before
        assert not caplog.messages
        with pytest.raises(WorkerLost):
            await worker.renew(worker.slot)
