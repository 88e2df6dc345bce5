"""Waiting for what the kernel does in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T]) -> T:
    """The first true value of ``condition``; fails after ten seconds."""
    deadline = time.monotonic() + 10
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited for ten seconds in vain"
        time.sleep(0.01)
    return value
