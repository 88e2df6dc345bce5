"""Signal handling for tests of functions that wait."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from epaird.bench.interruption import Interruption


@pytest.fixture
def restored_handlers() -> Iterator[None]:
    """Restore the signal handlers after the test, since an interruption leaves the signals ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def interruption(restored_handlers: None) -> Iterator[Interruption]:
    with Interruption() as interruption:
        yield interruption
