"""Tests on an event loop of the daemon's kind, in which nothing fails in silence and nothing is left over."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, ParamSpec

import uvloop

from tests.waiting import DEADLINE_S

P = ParamSpec("P")

TEST_S: Final = 1.5 * DEADLINE_S
"""What a test may take altogether; longer than a wait, which says what it waits for."""


def on_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test on uvloop.

    It fails, too, when an exception came out of a callback, and when it leaves a task, a child process or
    an open descriptor behind."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        _have_run_once()
        before, orphans = descriptors(), has_children()  # those of a test that failed are not ours
        uvloop.run(_watched(test(*args, **kwargs)))
        if _opened_since(before):
            gc.collect()
        left = _opened_since(before)
        assert not left, f"left open: {left}"
        assert orphans or not has_children(), "a process was left behind"

    return run


async def turns(count: int = 3) -> None:
    """Let the loop turn, so that what is due happens."""
    for _ in range(count):
        await asyncio.sleep(0)


def descriptors() -> dict[int, str]:
    """The open descriptors of this process, and what they are.

    Not those of ledgers: a mapping keeps one as long as somebody refers to it, as a logged exception does."""
    found = {}
    for link in Path("/proc/self/fd").iterdir():
        try:
            file = str(link.readlink())
        except FileNotFoundError:
            continue  # that of the directory itself
        if "epaird-ledger" not in file:
            found[int(link.name)] = file
    return found


def has_children() -> bool:
    """Whether this process has a child, dead or alive."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _opened_since(before: dict[int, str]) -> dict[int, str]:
    return {fd: file for fd, file in descriptors().items() if before.get(fd) != file}


@functools.cache
def _have_run_once() -> None:
    """libuv opens a pipe with its first loop, and keeps it."""
    uvloop.run(asyncio.sleep(0))


async def _watched(test: Coroutine[Any, Any, None]) -> None:
    failures: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: failures.append(context))
    async with asyncio.timeout(TEST_S):
        await test
        await turns()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others, f"tasks were left behind: {others}"
    assert not failures, f"callbacks failed: {failures}"
