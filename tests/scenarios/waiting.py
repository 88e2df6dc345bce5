"""Waiting for conditions: nothing sleeps to be safe."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

DEADLINE_S: Final = 20.0
"""Far more than anything here takes; what is not so by then will not be."""


T = TypeVar("T")


def until(condition: Callable[[], T | None], otherwise: Callable[[], object] = lambda: "") -> T:
    """Wait for a condition and return its first true value; fail with what ``otherwise`` says."""
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited for {DEADLINE_S:.0f} s in vain: {otherwise()}")
        time.sleep(0.01)
    return value
