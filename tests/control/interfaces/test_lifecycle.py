"""Interfaces created and destroyed, on a machine whose every step can fail."""

from __future__ import annotations

import asyncio
import errno
import itertools

import pytest

from epaird.control.interfaces.cables import DRAIN_TIMEOUT_S
from epaird.control.workers.worker import WorkerRefused
from epaird.kernel.errors import KernelError
from tests.control.stage import idle_stage
from tests.loop import on_loop, turns
from tests.waiting import eventually

FULL = {
    "queues": 2,
    "a": {"netns": "red", "name": "eth0", "mtu": 9000, "sndbuf": 65536, "addresses": ["10.0.0.1/24"]},
    "b": {"mac": "02:00:00:00:00:01", "routes": [{"to": "10.1.0.0/16", "via": "10.0.0.1"}]},
}
"""Settings that use every operation."""


@on_loop
async def test_whichever_step_fails_nothing_is_left() -> None:
    async with idle_stage(2) as stage:
        stage.host.add_namespace("red")
        failing = set()
        for step in itertools.count():
            stage.host.steps.clear()
            stage.host.failing_step = step
            try:
                pair = await stage.make(**FULL)
            except KernelError:
                failing.add(stage.host.steps[step])
            else:
                steps = tuple(stage.host.steps)
                stage.host.failing_step = None
                await stage.pairs.destroy(pair)
                if step >= len(steps):
                    break
                assert steps[step] in ("set_carrier", "find"), "a failure of these is only logged"
            assert not stage.left()
        assert {"open_tap", "set_sndbuf", "place", "configure"} <= failing
        assert not stage.left()


@on_loop
async def test_whenever_it_is_cancelled_nothing_is_left() -> None:
    async with idle_stage(2) as stage:
        stage.host.add_namespace("red")
        for operation in ("open_tap", "place", "configure"):
            held = stage.host.hold(operation)
            making = asyncio.create_task(stage.make(**FULL))
            await eventually(held.reached.is_set)
            making.cancel()
            await turns()
            assert not making.done(), "nothing would own what the kernel's thread creates"
            held.released.set()
            with pytest.raises(asyncio.CancelledError):
                await making
            assert not stage.left()


@on_loop
async def test_a_worker_that_cannot_attach_leaves_nothing() -> None:
    async with idle_stage(2) as stage:
        stage.workers[0].failure = WorkerRefused("too many open files")
        with pytest.raises(WorkerRefused):
            await stage.make(queues=2)
        assert not stage.left()


@on_loop
async def test_a_name_that_is_taken_leaves_the_other_alone() -> None:
    async with idle_stage() as stage:
        await stage.make()
        with pytest.raises(KernelError, match="epair0a: a device of this name exists already"):
            await stage.make()
        assert sorted(stage.host.links) == ["epair0a", "epair0b"]
        assert list(stage.workers[0].attachments) == ["epair0"]


@on_loop
async def test_a_ledger_that_is_full_leaves_nothing() -> None:
    async with idle_stage() as stage:
        free = stage.table.slots - len(stage.slots.taken)
        kept = [stage.slots.take() for _ in range(free - 3)]
        message = r"^epair0b: the ledger is full: there can be 256 queues of interfaces and workers$"
        with pytest.raises(KernelError, match=message) as refusal:
            await stage.make(queues=2)
        assert refusal.value.errno == errno.ENOSPC
        for slot in kept:
            stage.slots.release(slot)
        assert not stage.left()


@on_loop
async def test_devices_are_destroyed_after_the_last_frame_was_delivered() -> None:
    async with idle_stage() as stage:
        pair = await stage.make()
        stage.workers[0].detaching.clear()
        destroying = asyncio.create_task(stage.pairs.destroy(pair))
        await eventually(lambda: ("detach", "epair0", DRAIN_TIMEOUT_S) in stage.workers[0].requests)
        await turns(10)
        assert "close_taps" not in stage.host.steps
        assert len(stage.slots.taken) == 3
        stage.workers[0].detaching.set()
        await destroying
        assert not stage.left()


@on_loop
async def test_a_second_request_to_destroy_waits_for_the_first() -> None:
    async with idle_stage() as stage:
        pair = await stage.make()
        stage.workers[0].detaching.clear()
        destroying = [asyncio.create_task(stage.pairs.destroy(pair)) for _ in range(2)]
        destroying.append(asyncio.create_task(stage.pairs.destroy_all()))
        await turns(10)
        assert not any(task.done() for task in destroying)
        stage.workers[0].detaching.set()
        await asyncio.gather(*destroying)
        await stage.pairs.destroy(pair)
        assert not stage.left()
        assert stage.host.steps.count("close_taps") == 1
        assert [request[0] for request in stage.workers[0].requests] == ["attach", "detach"]


@on_loop
async def test_a_pair_is_removed_even_if_its_devices_cannot_be_closed() -> None:
    async with idle_stage() as stage:
        for number in range(3):
            await stage.make(f"epair{number}")
        stage.host.fail("close_taps")
        with pytest.raises(KernelError):
            await stage.pairs.destroy_all()
        assert not stage.left()


@on_loop
async def test_a_worker_that_fails_to_detach_does_not_keep_the_devices() -> None:
    async with idle_stage() as stage:
        pair = await stage.make()
        stage.workers[0].failure = WorkerRefused("epair0 is not attached")
        with pytest.raises(WorkerRefused):
            await stage.pairs.destroy(pair)
        assert not stage.left()
