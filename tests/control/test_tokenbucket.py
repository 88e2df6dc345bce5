"""A token bucket: never more than the burst and the rate allow, and never less."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.control.tokenbucket import Rate, TokenBucket

_RATES = st.builds(Rate, st.integers(1, 50), st.floats(0.1, 100))
_PAUSES = st.lists(st.floats(0, 5), max_size=200)


@given(_RATES, _PAUSES)
def test_no_more_than_the_rate_is_taken(rate: Rate, pauses: list[float]) -> None:
    bucket, now, taken = TokenBucket(rate, 100.0), 100.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now)
        assert taken <= rate.burst + (now - 100.0) * rate.per_s + 1e-6


@given(_RATES, st.integers(1, 100))
def test_the_wait_for_a_token_is_exact(rate: Rate, attempts: int) -> None:
    bucket, now = TokenBucket(rate, 0.0), 0.0
    for _ in range(rate.burst):
        assert bucket.wait(now) == 0
        assert bucket.take(now)
    for _ in range(attempts):
        wait = bucket.wait(now)
        assert 0 < wait <= 1 / rate.per_s + 1e-9
        assert not bucket.take(now + wait / 2)
        assert bucket.wait(now + wait * 3 / 4) == pytest.approx(wait / 4, abs=1e-6)
        now += wait + 1e-9
        assert bucket.take(now)


@given(_RATES)
def test_a_pause_fills_it_to_the_burst_and_no_further(rate: Rate) -> None:
    bucket = TokenBucket(rate, 0.0)
    while bucket.take(0.0):
        pass
    assert not bucket.full(0.0)
    later = rate.burst / rate.per_s * 10
    assert bucket.full(later)
    assert sum(bucket.take(later) for _ in range(2 * rate.burst)) == rate.burst


def test_a_clock_that_stands_or_jumps_back_gives_nothing() -> None:
    bucket = TokenBucket(Rate(1, 1), 10.0)
    assert bucket.take(10.0)
    assert not bucket.take(3.0)
    assert not bucket.take(10.5)
    assert bucket.take(11.0)
    bucket = TokenBucket(Rate(2, 1), 10.0)
    assert [bucket.take(now) for now in (10.0, 3.0, 4.0)] == [True, True, False]


def test_another_rate_adds_what_its_burst_is_greater_by_and_no_more() -> None:
    bucket = TokenBucket(Rate(2, 1), 0)
    assert [bucket.take(0) for _ in range(3)] == [True, True, False]
    bucket.change(Rate(5, 10))
    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    bucket.change(Rate(1, 10))
    assert bucket.wait(0) == 0.1
    assert [bucket.take(1) for _ in range(2)] == [True, False]
