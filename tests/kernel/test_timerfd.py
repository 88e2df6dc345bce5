"""A timer as a descriptor."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator

import pytest

from epaird.kernel.timerfd import Timer
from tests.waiting import DEADLINE_S


@pytest.fixture
def timer() -> Iterator[Timer]:
    timer = Timer()
    yield timer
    timer.close()


def readable(timer: Timer, seconds: float) -> bool:
    return bool(select.select([timer.fd], [], [], seconds)[0])


def test_it_is_readable_from_its_time_on(timer: Timer) -> None:
    assert not readable(timer, 0)
    at_ns = time.monotonic_ns() + 20_000_000
    timer.arm(at_ns)
    assert readable(timer, DEADLINE_S)
    assert time.monotonic_ns() >= at_ns
    assert readable(timer, 0)


def test_a_time_that_has_passed_ends_it_at_once(timer: Timer) -> None:
    timer.arm(1)
    assert readable(timer, DEADLINE_S)


def test_arming_again_and_clearing_end_it(timer: Timer) -> None:
    for _ in range(2):
        timer.arm(1)
        assert readable(timer, DEADLINE_S)
        timer.arm(time.monotonic_ns() + 3600 * 10**9)
        assert not readable(timer, 0)
        timer.arm(1)
        assert readable(timer, DEADLINE_S)
        timer.clear()
        assert not readable(timer, 0)
        timer.clear()
