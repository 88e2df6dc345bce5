"""Background tasks: named, referenced, and never failing in silence."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

_running: set[asyncio.Task[Any]] = set()


def spawn(coroutine: Coroutine[Any, Any, T], name: str, *, awaited: bool = False) -> asyncio.Task[T]:
    """Run a coroutine in the background.  The loop keeps only weak references to tasks; this keeps one.

    ``awaited``: somebody awaits the task and deals with its failure."""
    task = asyncio.get_running_loop().create_task(coroutine, name=name)
    _running.add(task)
    task.add_done_callback(_running.discard if awaited else _finished)
    return task


async def together(*awaitables: Awaitable[object]) -> None:
    """Wait for all of them, also when one fails; then raise the first failure."""
    for outcome in await asyncio.gather(*awaitables, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


async def all_or_none(*awaitables: Awaitable[object]) -> None:
    """Wait for all of them; when one fails the others are cancelled, and its failure raised behind them."""
    tasks = [asyncio.ensure_future(each) for each in awaitables]
    if not tasks:
        return
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def whole(awaitable: Awaitable[T], *, unless: Callable[[], bool] = lambda: False) -> T:
    """Wait for something whose result must not be lost half-way.

    A cancellation meanwhile takes effect behind it: at the caller's next await, when there is a result.
    At once it does where ``unless``, which is asked then, says that nothing has been begun."""
    future = asyncio.ensure_future(awaitable)
    cancelled = False
    while not future.done():
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError:
            if unless():
                future.cancel()
                raise
            cancelled = True
    if cancelled:
        if future.cancelled() or future.exception() is not None:
            raise asyncio.CancelledError
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
            task.cancel()
    return future.result()


def _finished(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s failed, which is a bug of ours: %r", task.get_name(), error, exc_info=error)
