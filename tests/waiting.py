"""Waiting for what others do in their own time: nothing sleeps to be safe."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Final, TypeVar

DEADLINE_S: Final = 20.0
"""Far more than anything here takes, and no measure; what is not so by then will not be.

Less than the patience of those who would put a fault right that a test is to show: an orphan's
(``orphan_timeout``) and systemd's (``WatchdogSec``) are 30 s."""

T = TypeVar("T")


def until(condition: Callable[[], T | None], otherwise: Callable[[], object] = lambda: "") -> T:
    """The first true value of a condition.

    Raises AssertionError with the condition, and with what ``otherwise`` says, when there is none in time."""
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise _in_vain(condition, otherwise)
        time.sleep(0.01)
    return value


async def eventually(condition: Callable[[], T | None], otherwise: Callable[[], object] = lambda: "") -> T:
    """As :func:`until`, while the loop goes on."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE_S
    while not (value := condition()):
        if loop.time() > deadline:
            raise _in_vain(condition, otherwise)
        await asyncio.sleep(0.002)
    return value


def until_closed(connection: socket.socket) -> bytes:
    """What still comes before the other side ends the connection."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    finally:
        connection.close()
    return received


def _in_vain(condition: Callable[[], object], otherwise: Callable[[], object]) -> AssertionError:
    return AssertionError(f"waited for {DEADLINE_S:.0f} s in vain for {condition!r}: {otherwise()}")
