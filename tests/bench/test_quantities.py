from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.bench.quantities import per_cent, short, steps, ticks, with_unit


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.4, "0.40"),
        (9.996, "10.0"),
        (15.86, "15.9"),
        (99.96, "100"),
        (352_671, "353k"),
        (999_600, "1.00M"),
        (2_630_868, "2.63M"),
        (4e9, "4.00G"),
    ],
)
def test_short(value: float, text: str) -> None:
    assert short(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (352_671, "/s", "353 k/s"),
        (12, "/s", "12.0 /s"),
        (34.276, "Gbit/s", "34.3 Gbit/s"),
        (2417, "µs", "2417 µs"),
    ],
)
def test_with_unit(value: float, unit: str, text: str) -> None:
    assert with_unit(value, unit) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (1e-6, "<0.1 %"), (0.004, "0.4 %"), (0.0994, "9.9 %"), (0.1, "10 %"), (1, "100 %")],
)
def test_per_cent(share: float, text: str) -> None:
    assert per_cent(share) == text


@given(st.floats(min_value=1e-6, max_value=1e12))
def test_a_few_ticks_reach_the_top(top: float) -> None:
    marks = ticks(top)
    assert marks[0] == 0
    assert marks[-1] >= top * 0.999
    assert 2 <= len(marks) <= 7


def test_ticks_of_nothing() -> None:
    assert ticks(0) == (0, 1)


@given(st.floats(min_value=1e-3, max_value=1e9), st.floats(min_value=1, max_value=1e6))
def test_steps_enclose(low: float, factor: float) -> None:
    marks = steps(low, low * factor)
    assert marks[0] <= low
    assert marks[-1] > low * factor
    assert all(first < second for first, second in itertools.pairwise(marks))
    assert 2 <= len(marks) <= 12


def test_steps() -> None:
    assert steps(15, 120) == pytest.approx((10, 20, 50, 100, 200))
    assert steps(15, 90_000) == pytest.approx((10, 100, 1000, 10_000, 100_000))
