"""Waiting for conditions, so that no test sleeps to be safe."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Final, TypeVar

DEADLINE_S: Final = 20.0
"""Time limit of a wait in seconds, far more than anything here takes; not a measure of speed.

It is shorter than the timeouts that would repair a fault under test: an orphan's (``orphan_timeout``) and
systemd's (``WatchdogSec``) are 30 s.
"""

T = TypeVar("T")


def until(condition: Callable[[], T | None], otherwise: Callable[[], object] = lambda: "") -> T:
    """Return the first true value of a condition.

    Raises AssertionError with the condition and the text of ``otherwise`` when the deadline passes.
    """
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise _timed_out(condition, otherwise)
        time.sleep(0.01)
    return value


async def eventually(condition: Callable[[], T | None], otherwise: Callable[[], object] = lambda: "") -> T:
    """Do the same as :func:`until` while the event loop runs."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE_S
    while not (value := condition()):
        if loop.time() > deadline:
            raise _timed_out(condition, otherwise)
        await asyncio.sleep(0.002)
    return value


def until_closed(connection: socket.socket) -> bytes:
    """Return the data that arrives before the other side closes the connection."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    finally:
        connection.close()
    return received


def _timed_out(condition: Callable[[], object], otherwise: Callable[[], object]) -> AssertionError:
    return AssertionError(f"waited for {DEADLINE_S:.0f} s for {condition!r}: {otherwise()}")
