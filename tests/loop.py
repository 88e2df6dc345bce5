"""Tests on the daemon's kind of event loop, which fail on unhandled exceptions and on anything left over."""

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
"""Time limit of a whole test in seconds: longer than one wait, whose error names its condition."""


def on_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test on uvloop.

    The test also fails when a callback raises, and when it leaves a task, a child process or an open
    descriptor behind.
    """

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        _run_loop_once()
        before, children = descriptors(), has_children()  # left by tests that failed earlier
        uvloop.run(_run_checked(test(*args, **kwargs)))
        if _opened_since(before):
            gc.collect()
        left = _opened_since(before)
        assert not left, f"left open: {left}"
        assert children or not has_children(), "a process was left behind"

    return run


async def turns(count: int = 3) -> None:
    """Let the loop turn ``count`` times, so that due callbacks run."""
    for _ in range(count):
        await asyncio.sleep(0)


def descriptors() -> dict[int, str]:
    """Return the open descriptors of this process and the files they refer to.

    Ledgers are left out: a mapping keeps its descriptor while something refers to it, such as a logged
    exception.
    """
    found = {}
    for link in Path("/proc/self/fd").iterdir():
        try:
            file = str(link.readlink())
        except FileNotFoundError:
            continue  # the descriptor of the directory itself
        if "epaird-ledger" not in file:
            found[int(link.name)] = file
    return found


def has_children() -> bool:
    """Return whether this process has a child, dead or alive."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _opened_since(before: dict[int, str]) -> dict[int, str]:
    return {fd: file for fd, file in descriptors().items() if before.get(fd) != file}


@functools.cache
def _run_loop_once() -> None:
    """Let libuv open the pipe that it opens with its first loop and keeps."""
    uvloop.run(asyncio.sleep(0))


async def _run_checked(test: Coroutine[Any, Any, None]) -> None:
    failures: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: failures.append(context))
    async with asyncio.timeout(TEST_S):
        await test
        await turns()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others, f"tasks were left behind: {others}"
    assert not failures, f"callbacks failed: {failures}"
