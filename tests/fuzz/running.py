"""An event loop that runs while an input is tried, and the faults that are logged or raised on it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import uvloop

from tests.waiting import DEADLINE_S

T = TypeVar("T")


class Run:
    """A loop, and what went wrong on it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._faults: list[str] = []
        loop.set_exception_handler(lambda _loop, context: self._faults.append(str(context)))
        self._log = _Faults(self._faults)

    def run(self, trial: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine; it fails when an error is logged or a callback raises an exception meanwhile."""
        logging.getLogger().addHandler(self._log)
        try:
            result = self.loop.run_until_complete(asyncio.wait_for(trial, DEADLINE_S))
            assert not self._faults, "\n".join(self._faults)
        except BaseException as error:
            for fault in self._faults:
                error.add_note(fault)
            raise
        finally:
            self._faults.clear()
            logging.getLogger().removeHandler(self._log)
        return result


@contextlib.contextmanager
def running() -> Iterator[Run]:
    """Provide a loop."""
    with new_loop() as loop:
        yield Run(loop)


@contextlib.contextmanager
def new_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Provide the current event loop of this thread, of the daemon's kind."""
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield loop
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


class _Faults(logging.Handler):
    """Collects errors, tracebacks, and lines that do not print."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__()
        self._faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        """Collect a record."""
        message = record.getMessage()
        if record.levelno >= logging.ERROR or record.exc_info or not message.isprintable():
            self._faults.append(logging.Formatter("%(levelname)s %(message)r").format(record))
