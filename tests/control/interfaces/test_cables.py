"""Cables: attached, moved and detached, with one queue and several."""

from __future__ import annotations

import asyncio

import pytest

from epaird.control.interfaces.cables import DRAIN_TIMEOUT_S
from epaird.control.workers.worker import WorkerRefused
from epaird.ipc import counters
from tests.control.stage import idle_stage
from tests.loop import on_loop


@on_loop
async def test_each_queue_has_a_name_and_a_worker() -> None:
    async with idle_stage(2) as stage:
        one, two = await stage.make("epair0"), await stage.make("epair1", queues=2)
        cables = [pair.halves[0].cable for pair in (one, two)]
        assert [[name for name, _ in cable.queues] for cable in cables if cable is not None] == [
            ["epair0"], ["epair1.0", "epair1.1"],
        ]  # fmt: skip
        assert [cable.numbers for cable in cables if cable is not None] == [str(one.workers[0].number), "0,1"]
        for pair, cable in zip((one, two), cables, strict=True):
            assert [half.cable for half in pair.halves] == [cable, cable]


@on_loop
async def test_a_queue_that_cannot_be_attached_detaches_the_others() -> None:
    async with idle_stage(2) as stage:
        pair = await stage.make(queues=2)
        cable = pair.halves[0].cable
        assert cable is not None
        await cable.detach()
        assert [half.cable for half in pair.halves] == [None, None]
        (last,) = (worker for worker in stage.workers if worker is cable.workers[-1])
        last.failure = WorkerRefused("too many open files")
        with pytest.raises(WorkerRefused):
            await cable.attach()
        assert [half.cable for half in pair.halves] == [None, None]
        assert not any(worker.attachments for worker in stage.workers)
        last.failure = None
        await cable.attach()


@on_loop
async def test_frames_counted_before_the_cable_was_attached_are_not_lost() -> None:
    async with idle_stage() as stage:
        pair = await stage.make()
        a, b = pair.halves
        stage.words("epair0a")[counters.OPACKETS] = 9  # to another peer, as if it had been patched to one
        cable = stage.pairs.cable_of(a)
        cable.adopt({(0, b): 5})
        assert (cable.bases(a), cable.bases(b)) == ((9,), (5,))
        cable.settle_queue(0, {})
        assert stage.words("epair0b")[counters.IERRORS + counters.WORKER_LOST] == 0
        stage.words("epair0a")[counters.OPACKETS] = 11
        cable.settle(stage.workers[0], {})
        lost = counters.IERRORS + counters.WORKER_LOST
        assert stage.words("epair0b")[lost] == 0, "another process may still read it"
        cable.handed_over[0] = True
        cable.settle(stage.workers[0], {})
        assert stage.words("epair0b")[lost] == 2


@on_loop
async def test_a_cable_is_detached_until_its_frames_are_delivered() -> None:
    async with idle_stage() as stage:
        pair = await stage.make()
        cable = pair.halves[0].cable
        assert cable is not None
        stage.workers[0].detaching.clear()
        detaching = asyncio.create_task(cable.detach())
        await asyncio.sleep(0.01)
        assert pair.halves[0].cable is cable
        assert stage.workers[0].requests[-1] == ("detach", "epair0", DRAIN_TIMEOUT_S)
        stage.workers[0].detaching.set()
        await detaching
        assert pair.halves[0].cable is None
