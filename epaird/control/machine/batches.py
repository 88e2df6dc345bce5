"""Batches: requests that arrive while others are carried out are then carried out together.

Many operations cost the kernel, or the way to it, nearly as much for one device as for a hundred: entering a
namespace, opening a socket, waiting for the last user of a device. A caller requests an operation on one
device; requests that arrive while the thread is busy form the next batch.
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
"""Requests in a batch, so that other work of the thread waits some 10 ms at most."""


class Batches(Generic[Q, R]):
    """Requests of one kind."""

    def __init__(
        self,
        carry_out: Callable[[Sequence[Q]], Awaitable[Sequence[R | Exception]]],
        *,
        at_once: int = AT_ONCE,
    ) -> None:
        """``carry_out`` returns the outcome of each request, in order; an exception that it raises is the
        outcome of all of them. ``at_once`` is the most requests in a batch."""
        self._carry_out = carry_out
        self._at_once = at_once
        self._waiting: dict[asyncio.Future[R], Q] = {}
        self._busy = False

    async def ask(self, request: Q) -> R:
        """Carry out a request; return its result or raise its exception.

        A cancellation takes effect before or after the operation, never during it: the result would be
        unknown. A request that is cancelled before is never carried out."""
        await asyncio.sleep(0)
        outcome: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting[outcome] = request
        if not self._busy:
            self._busy = True
            spawn(self._work(), "carrying out a batch")
        return await whole(outcome, unless=lambda: self._waiting.pop(outcome, None) is not None)

    async def _work(self) -> None:
        while self._waiting:
            batch = dict(islice(self._waiting.items(), self._at_once))
            for future in batch:
                del self._waiting[future]
            try:
                outcomes = await self._carry_out(tuple(batch.values()))
            except asyncio.CancelledError:
                # The loop ends: no request would ever be answered.
                for future in (*batch, *self._waiting):
                    future.cancel()
                raise
            except Exception as error:  # noqa: BLE001  it is raised where the request came from
                outcomes = [error] * len(batch)
            for future, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
        self._busy = False
