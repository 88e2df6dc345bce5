"""The path's delay: its distribution at any moment, its correlation, and how seldom order needs help."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.dataplane.impair.pathdelay import (
    KNOT_NS,
    QUANTILES,
    WINDOW_MAX,
    PathDelay,
    expected_delay,
    knot_distance,
)
from epaird.dataplane.impair.streams import Stream
from epaird.ipc.impairment import LineParameters
from tests.dataplane.impair.oracles import KOLMOGOROV, SIGMAS, distance

MS: Final = 1_000_000
SECOND: Final = 1_000 * MS
MOMENTS: Final = 10_000
BEGIN: Final = 5 * SECOND
DELAY: Final = 100 * MS
JITTER: Final = 10 * MS
EXACT: Final = [107331, 103429, 113654, 78103, 108240, 90297]
"""Microseconds."""


def path(name: str = "normal", *, seed: int = 3, correlation: float = 0.0, jitter: int = JITTER) -> PathDelay:
    parameters = LineParameters(DELAY, jitter, correlation, name)
    return PathDelay(Stream(seed, 7), parameters, BEGIN)


def normal(value: float) -> float:
    return 0.5 * math.erfc(-value / math.sqrt(2))


def pareto(value: float) -> float:
    """Distribution function of a Pareto variable of shape 3 with mean 0 and deviation 1."""
    scaled = value * math.sqrt(0.75) + 1.5
    return 1 - scaled**-3 if scaled > 1 else 0.0


def paretonormal(value: float) -> float:
    """Distribution function, by bisection of the quantile function's definition."""
    low, high = -9.0, 9.0
    deviation = 0.9377538
    for _ in range(60):
        middle = (low + high) / 2
        upper = 0.5 * math.erfc(middle / math.sqrt(2))
        mixed = 0.75 * (upper ** (-1 / 3) - 1.5) / math.sqrt(0.75) + 0.25 * middle
        low, high = (middle, high) if mixed < value * deviation else (low, middle)
    return normal(low)


FUNCTIONS: Final[dict[str, Callable[[float], float]]] = {
    "normal": normal,
    "uniform": lambda value: min(1, max(0, (value + 1) / 2)),
    "pareto": pareto,
    "paretonormal": paretonormal,
}


def moments(part: float, correlation: float = 0.0) -> list[int]:
    """Moments that are far apart, each so far behind a knot."""
    knots = 2 if correlation == 0 else 60
    return [BEGIN + int((index * knots + part) * KNOT_NS) for index in range(MOMENTS)]


@pytest.mark.parametrize("name", QUANTILES)
@pytest.mark.parametrize("part", [0.0, 0.5, 0.8])
def test_the_distribution_is_exact_at_and_between_knots(name: str, part: float) -> None:
    delay = path(name)
    values = [(delay.at(moment) - DELAY) / JITTER for moment in moments(part)]
    assert distance(values, FUNCTIONS[name]) < KOLMOGOROV


@pytest.mark.parametrize("correlation", [0.25, 0.8])
def test_correlated_knots_keep_the_distribution(correlation: float) -> None:
    delay = path(correlation=correlation)
    values = [(delay.at(moment) - DELAY) / JITTER for moment in moments(0.5, correlation)[:3000]]
    assert distance(values, normal) < KOLMOGOROV


@pytest.mark.parametrize("correlation", [0.0, 0.25, 0.8, 0.99])
def test_successive_knots_have_the_correlation_that_was_asked_for(correlation: float) -> None:
    delay = path(correlation=correlation)
    values = [(delay.at(BEGIN + index * KNOT_NS) - DELAY) / JITTER for index in range(MOMENTS)]
    for lag in (1, 2, 3):
        products = math.fsum(a * b for a, b in zip(values[lag:], values[:-lag], strict=True))
        # Bartlett's variance of an autocovariance: the sum of the squared correlations.
        power = correlation**2
        spread = (1 + power) / (1 - power) * (1 + power**lag) + 2 * lag * power**lag
        deviation = math.sqrt(spread / MOMENTS)
        assert abs(products / MOMENTS - correlation**lag) < SIGMAS * deviation


def test_a_correlation_of_one_is_nearly_constant() -> None:
    delay = path(correlation=1.0)
    values = [delay.at(BEGIN + index * KNOT_NS) for index in range(10)]
    assert max(values) - min(values) < JITTER * 10 / math.sqrt(WINDOW_MAX)


@pytest.mark.parametrize("name", QUANTILES)
def test_mean_and_deviation(name: str) -> None:
    # By the midpoint rule over the quantiles; uniform is given by its half-width.
    step = 1e-3
    values = [(index + 0.5) * step - 9 for index in range(18_000)]
    weights = [math.exp(-value * value / 2) * step / math.sqrt(math.tau) for value in values]
    results = [QUANTILES[name](value) for value in values]
    mean = math.fsum(weight * result for weight, result in zip(weights, results, strict=True))
    power = math.fsum(weight * result**2 for weight, result in zip(weights, results, strict=True))
    assert mean == pytest.approx(0, abs=1e-6)
    assert power == pytest.approx(1 / 3 if name == "uniform" else 1, abs=1e-5)


def passed(delay: PathDelay, rate: int, seconds: int) -> tuple[float, float, float]:
    """Mean delay in order, mean without the clamp that keeps order, and the share of packets it moves."""
    gap = SECOND // rate
    last, ordered, free, moved = 0, 0, 0, 0
    for index in range(rate * seconds):
        now = BEGIN + index * gap
        own = delay.at(now)
        last = max(last, now + own)
        moved += last != now + own
        ordered += last - now
        free += own
    count = rate * seconds
    return ordered / count, free / count, moved / count


@pytest.mark.parametrize("name", ["normal", "uniform"])
def test_the_mean_does_not_depend_on_the_number_of_packets(name: str) -> None:
    seconds = 60
    few, _, _ = passed(path(name), 100, seconds)
    many, free, moved = passed(path(name), 10_000, seconds)
    assert abs(few - many) < JITTER / 100
    assert abs(many - free) < JITTER / 100
    assert moved < 0.03
    # 60 s are 1,500 knots; between knots the mean of the interpolated values varies a little less.
    assert abs(many - DELAY) < SIGMAS * JITTER / math.sqrt(seconds * SECOND / KNOT_NS)


@pytest.mark.parametrize("jitter", [MS, JITTER, 50 * MS])
@pytest.mark.parametrize(
    ("name", "shift", "share"),
    [
        ("normal", 0.004, 0.02),
        ("uniform", 0.001, 0.002),
        # A peak of the heavy tail would have to end faster than time passes.
        ("pareto", 0.1, 0.05),
        ("paretonormal", 0.1, 0.05),
    ],
)
def test_order_seldom_needs_help(name: str, jitter: int, shift: float, share: float) -> None:
    ordered, free, moved = passed(path(name, jitter=jitter), 1000, 200)
    if jitter == MS:
        shift, share = shift / 100, share / 100
    assert 0 <= ordered - free < shift * jitter
    assert moved <= share


def test_knots_are_as_far_apart_as_the_jitter_needs() -> None:
    assert knot_distance(0) == knot_distance(JITTER) == KNOT_NS
    assert knot_distance(25 * MS) == 100 * MS


@pytest.mark.parametrize(
    ("name", "jitter", "added"),
    [
        ("normal", 10, 0.0),
        ("normal", 100, 100 * (math.exp(-0.5) / math.sqrt(math.tau) - 0.5 * math.erfc(1 / math.sqrt(2)))),
        ("uniform", 100, 0.0),
        ("uniform", 200, 12.5),
        ("pareto", 170, 0.0),
    ],
)
def test_the_mean_grows_where_the_jitter_reaches_below_zero(name: str, jitter: int, added: float) -> None:
    parameters = LineParameters(100 * MS, jitter * MS, 0, name)
    assert expected_delay(parameters) == pytest.approx((100 + added) * MS, rel=1e-5)


@pytest.mark.parametrize("name", QUANTILES)
def test_a_delay_is_never_negative_and_has_the_expected_mean(name: str) -> None:
    parameters = LineParameters(10 * MS, 40 * MS, 0, name)
    delay = PathDelay(Stream(3, 7), parameters, BEGIN)
    values = [delay.at(BEGIN + index * 2 * knot_distance(40 * MS)) for index in range(MOMENTS)]
    assert min(values) == 0
    deviation = 40 * MS / math.sqrt(MOMENTS)
    assert abs(math.fsum(values) / MOMENTS - expected_delay(parameters)) < SIGMAS * deviation


def test_without_jitter_the_mean_is_the_delay() -> None:
    assert expected_delay(LineParameters(5 * MS)) == 5 * MS


def test_a_seed_gives_exactly_these_delays() -> None:
    delay = path(seed=7)
    assert [delay.at(BEGIN + index * 100 * MS) // 1000 for index in range(6)] == EXACT


@given(st.lists(st.integers(-SECOND, 100 * SECOND), min_size=1), st.sampled_from([0.0, 0.3, 0.95]))
def test_a_delay_depends_on_the_moment_alone(times: list[int], correlation: float) -> None:
    walked = path(correlation=correlation)
    for moment in times:
        assert walked.at(BEGIN + moment) == path(correlation=correlation).at(BEGIN + moment)
