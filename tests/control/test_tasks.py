from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from epaird.control.tasks import all_or_none, spawn, together, whole
from tests.loop import on_loop, turns


async def fail() -> None:
    raise ZeroDivisionError("by zero")


@on_loop
async def test_a_task_that_fails_is_logged_with_its_name(caplog: pytest.LogCaptureFixture) -> None:
    await asyncio.wait((spawn(fail(), "resizing epair0"),))
    assert caplog.messages == ["internal error: resizing epair0 failed: ZeroDivisionError('by zero')"]
    assert caplog.records[0].exc_info


@on_loop
async def test_a_failure_of_an_awaited_task_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    task = spawn(fail(), "starting", awaited=True)
    with pytest.raises(ZeroDivisionError):
        await task
    await turns()
    assert not caplog.messages


@on_loop
async def test_a_task_that_ends_or_is_cancelled_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    ends = spawn(asyncio.sleep(0, "result"), "ending")
    cancelled = spawn(asyncio.sleep(3600), "cancelled")
    await turns()
    cancelled.cancel()
    await asyncio.wait((ends, cancelled))
    assert ends.result() == "result"
    assert (ends.get_name(), cancelled.get_name()) == ("ending", "cancelled")
    assert not caplog.messages


@on_loop
async def test_a_task_without_other_references_is_not_collected() -> None:
    async def waits_for_itself_only() -> None:
        await asyncio.get_running_loop().create_future()

    task = weakref.ref(spawn(waits_for_itself_only(), "waiting"))
    await turns()
    gc.collect()
    alive = task()
    assert alive is not None
    alive.cancel()
    await asyncio.wait((alive,))
    del alive
    await turns()
    gc.collect()
    assert task() is None, "kept for ever"


@on_loop
async def test_together_waits_for_all_and_raises_the_first_failure() -> None:
    done: list[int] = []

    async def slow(number: int) -> None:
        await turns(number)
        done.append(number)

    with pytest.raises(ZeroDivisionError):
        await together(slow(9), fail(), slow(5))
    assert done == [5, 9]
    await together()


@on_loop
async def test_a_cancellation_of_together_cancels_all() -> None:
    parts = [asyncio.ensure_future(asyncio.sleep(3600)) for _ in range(2)]
    task = asyncio.create_task(together(*parts))
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert all(part.cancelled() for part in parts)


@on_loop
async def test_whole_returns_a_result_or_raises_a_failure() -> None:
    assert await whole(asyncio.sleep(0, 7)) == 7
    with pytest.raises(ZeroDivisionError):
        await whole(fail())


@on_loop
async def test_a_cancellation_takes_effect_after_the_operation_and_its_result_is_not_lost() -> None:
    made = asyncio.get_running_loop().create_future()
    kept: list[int] = []

    async def make() -> None:
        kept.append(await whole(made))
        await asyncio.sleep(0)
        raise AssertionError("not cancelled")

    task = asyncio.create_task(make())
    await turns()
    for _ in range(2):
        task.cancel()
        await turns()
    assert not task.done()
    made.set_result(7)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert kept == [7]


@on_loop
async def test_a_failure_after_a_cancellation_is_the_cancellation() -> None:
    made = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(whole(made))
    await turns()
    task.cancel()
    await turns()
    made.set_exception(ZeroDivisionError())
    with pytest.raises(asyncio.CancelledError):
        await task


@on_loop
async def test_a_deadline_around_it_still_applies() -> None:
    made = asyncio.get_running_loop().create_future()

    async def make() -> None:
        async with asyncio.timeout(0):
            await whole(made)
            await asyncio.sleep(3600)

    task = asyncio.create_task(make())
    await turns()
    made.set_result(None)
    with pytest.raises(TimeoutError):
        await task


@on_loop
async def test_when_one_fails_the_others_are_cancelled_and_waited_for() -> None:
    ended: list[str] = []

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("waits")

    async def succeeds() -> None:
        ended.append("succeeds")

    with pytest.raises(ValueError, match="no"):
        await all_or_none(waits(), fails(), succeeds())
    assert ended == ["succeeds", "waits"]
    await all_or_none()
    await all_or_none(succeeds())


@on_loop
async def test_cancelled_it_cancels_all_and_waits_for_them() -> None:
    ended: list[int] = []

    async def waits(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(number)

    task = asyncio.ensure_future(all_or_none(waits(1), waits(2)))
    await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [1, 2]
