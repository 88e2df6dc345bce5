"""Calls that come while others are under way, carried out together.

Many things cost the kernel, or the way to it, nearly as much for one device as for a hundred: entering a
namespace, a socket, the wait for a device's last user.  Whoever wants something asks for one device; what is
asked while the thread is busy is carried out at once when it is free again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Final, Generic, TypeVar

from epaird.control.tasks import spawn, whole

Q = TypeVar("Q")
R = TypeVar("R")

AT_ONCE: Final = 64
"""Calls of a batch, so that what else the thread has to do waits some 10 ms at most."""


class Batches(Generic[Q, R]):
    """One kind of call."""

    def __init__(
        self,
        carry_out: Callable[[Sequence[Q]], Awaitable[Sequence[R | Exception]]],
        *,
        at_once: int = AT_ONCE,
    ) -> None:
        """``carry_out`` gives what became of each request, in their order; what it raises became of all."""
        self._carry_out = carry_out
        self._at_once = at_once
        self._waiting: dict[asyncio.Future[R], Q] = {}
        self._busy = False

    async def ask(self, request: Q) -> R:
        """What becomes of a request: its result, or its exception.

        Cancelled before or behind what is done, never meanwhile: nobody would know what it made.  What is
        cancelled before is never done."""
        await asyncio.sleep(0)
        outcome: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting[outcome] = request
        if not self._busy:
            self._busy = True
            spawn(self._work(), "carrying out a batch")
        return await whole(outcome, unless=lambda: self._waiting.pop(outcome, None) is not None)

    async def _work(self) -> None:
        while self._waiting:
            taken = dict(islice(self._waiting.items(), self._at_once))
            for future in taken:
                del self._waiting[future]
            try:
                outcomes = await self._carry_out(tuple(taken.values()))
            except asyncio.CancelledError:
                # The loop ends: nobody would ever answer.
                for future in (*taken, *self._waiting):
                    future.cancel()
                raise
            except Exception as error:  # noqa: BLE001  it is raised where the request came from
                outcomes = [error] * len(taken)
            for future, outcome in zip(taken, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
        self._busy = False
