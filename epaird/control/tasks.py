"""Background tasks: named, referenced, and logged when they fail."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast

from epaird.startup import block_signals

log = logging.getLogger(__name__)

T = TypeVar("T")

_running: set[asyncio.Task[Any]] = set()


def spawn(coroutine: Coroutine[Any, Any, T], name: str, *, awaited: bool = False) -> asyncio.Task[T]:
    """Run a coroutine in the background.

    The loop keeps only weak references to tasks; this module keeps a strong one. With ``awaited`` the caller
    awaits the task and handles its failure; otherwise a failure is logged."""
    task = asyncio.get_running_loop().create_task(coroutine, name=name)
    _running.add(task)
    task.add_done_callback(_running.discard if awaited else _finished)
    return task


async def together(*awaitables: Awaitable[object]) -> None:
    """Wait for all awaitables, even when one fails; then raise the first failure."""
    for outcome in await asyncio.gather(*awaitables, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


async def all_or_none(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Wait for all coroutines; when one fails, cancel the others, wait for them, and raise its failure."""
    tasks = [
        spawn(each, getattr(each, "__qualname__", "one of several"), awaited=True) for each in coroutines
    ]
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
    """Wait for an operation whose result must not be lost half-way.

    A cancellation in between takes effect afterwards: at the caller's next await, when there is a result. It
    takes effect at once when ``unless``, which is called then, returns true: nothing has been started."""
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


async def in_thread(
    function: Callable[..., T], *arguments: object, unwanted: Callable[[T], object] = lambda _: None
) -> T:
    """Call a function that takes long, or for ever as a file system or a name server may; return its result.

    It gets a thread that the end of the process does not wait for. A cancellation takes effect at once; the
    function goes on, and its result is then passed to ``unwanted``."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: BaseException | None) -> None:
        if error is None:
            if future.done():
                unwanted(cast("T", result))
            else:
                future.set_result(cast("T", result))
        elif not future.done():
            future.set_exception(error)

    def call() -> None:
        block_signals()
        result, failure = None, None
        try:
            result = function(*arguments)
        except BaseException as error:  # noqa: BLE001  it is raised where the call came from
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(finish, result, failure)

    threading.Thread(target=call, name="blocking", daemon=True).start()
    try:
        return await future
    except asyncio.CancelledError:
        if future.done() and not future.cancelled() and future.exception() is None:
            unwanted(future.result())
        raise


def _finished(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("internal error: %s failed: %r", task.get_name(), error, exc_info=error)
