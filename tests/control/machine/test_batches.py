from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from epaird.control.machine.batches import Batches
from tests.loop import on_loop, turns
from tests.waiting import eventually


class Press:
    """Doubles numbers in batches; fails for negative ones."""

    def __init__(self, at_once: int = 64) -> None:
        self.carried: list[list[int]] = []
        self.free = asyncio.Event()
        self.batches: Batches[int, int] = Batches(self._carry_out, at_once=at_once)

    async def _carry_out(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.carried.append(list(numbers))
        await self.free.wait()
        if 0 in numbers:
            raise OSError("zero")
        return [2 * each if each > 0 else ValueError(f"{each} is negative") for each in numbers]


@on_loop
async def test_requests_while_it_is_busy_are_carried_out_together() -> None:
    press = Press()
    first = asyncio.ensure_future(press.batches.ask(1))
    await eventually(lambda: press.carried)
    others = [asyncio.ensure_future(press.batches.ask(number)) for number in range(2, 50)]
    await turns()
    press.free.set()
    assert await asyncio.gather(first, *others) == [2 * number for number in range(1, 50)]
    assert press.carried == [[1], list(range(2, 50))]
    assert await press.batches.ask(7) == 14


@on_loop
async def test_batches_are_limited_and_in_order() -> None:
    press = Press(at_once=3)
    press.free.set()
    requests = [press.batches.ask(number) for number in range(1, 9)]
    assert await asyncio.gather(*requests) == [2 * number for number in range(1, 9)]
    assert [number for batch in press.carried for number in batch] == list(range(1, 9))
    assert max(map(len, press.carried)) == 3


@on_loop
async def test_each_has_its_own_failure() -> None:
    press = Press()
    press.free.set()
    outcomes = await asyncio.gather(*map(press.batches.ask, (1, -2, 3)), return_exceptions=True)
    assert [outcomes[0], str(outcomes[1]), outcomes[2]] == [2, "-2 is negative", 6]
    with pytest.raises(OSError, match="zero"):
        await press.batches.ask(0)
    assert await press.batches.ask(1) == 2


@on_loop
async def test_a_cancelled_request_does_not_affect_others() -> None:
    press = Press()
    one, other = (asyncio.ensure_future(press.batches.ask(number)) for number in (1, 2))
    await eventually(lambda: press.carried)
    one.cancel()
    press.free.set()
    assert await other == 4
    await asyncio.wait((one,))
    assert press.carried == [[1, 2]]


@on_loop
async def test_a_request_cancelled_while_it_waits_is_never_carried_out() -> None:
    press = Press()
    first = asyncio.ensure_future(press.batches.ask(1))
    await eventually(lambda: press.carried)
    others = [asyncio.ensure_future(press.batches.ask(number)) for number in range(2, 6)]
    await turns()
    for each in (first, others[1], others[2]):
        each.cancel()
    await turns()
    assert [each.done() for each in (first, *others)] == [False, False, True, True, False]
    press.free.set()
    assert [await others[0], await others[3]] == [4, 10]
    assert press.carried == [[1], [2, 5]]
    with pytest.raises(asyncio.CancelledError):  # after the batch
        await first
