from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.bench.statistics import NOISY, Summary, percentile, ratio, summary

positive = st.floats(min_value=1e-3, max_value=1e9)


def test_summary() -> None:
    assert summary([3, 1, 2]) == Summary(median=2, low=1, high=3)


def test_a_round_without_a_figure_does_not_count() -> None:
    assert summary([3, math.nan, 1, 2]) == Summary(2, 1, 3)
    assert summary([math.nan]) is None
    assert summary([]) is None


def test_spread_is_half_the_range() -> None:
    steady, wild = Summary(100, 95, 105), Summary(100, 80, 140)
    assert steady.spread == pytest.approx(0.05)
    assert not steady.noisy
    assert wild.spread == pytest.approx(0.3)
    assert wild.spread > NOISY
    assert wild.noisy
    assert Summary(0, 0, 0).spread == 0


def test_the_ratio_is_taken_round_by_round() -> None:
    # The machine was five times slower in the second round, which does not affect the ratio.
    assert ratio([200, 40, 200], [100, 20, 100]) == Summary(2, 2, 2)


def test_a_ratio_to_nothing_does_not_count() -> None:
    assert ratio([1, 4], [0, 2]) == Summary(2, 2, 2)
    assert ratio([1, math.nan], [math.nan, 2]) is None


@given(st.lists(positive, min_size=1))
def test_the_median_is_within_the_range(values: list[float]) -> None:
    found = summary(values)
    assert found is not None
    assert min(values) == found.low <= found.median <= found.high == max(values)


@given(st.lists(positive, min_size=1), st.floats(min_value=0, max_value=100))
def test_percentile(values: list[float], percent: float) -> None:
    found = percentile(sorted(values), percent)
    assert found in values
    not_above = sum(value <= found for value in values)
    assert not_above >= len(values) * percent / 100 - 1e-6


def test_percentiles_of_a_hundred() -> None:
    ordered = list(range(1, 101))
    assert [percentile(ordered, percent) for percent in (0, 50, 99, 99.9, 100)] == [1, 50, 99, 100, 100]
