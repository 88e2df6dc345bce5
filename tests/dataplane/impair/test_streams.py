"""Streams: the reference values of splitmix64, evenness, independence, gaps of every size."""

from __future__ import annotations

import math
from typing import Final

import pytest

from epaird.dataplane.impair.streams import NEVER, Stream, StreamNumber, mixed, scale_of
from tests.dataplane.impair.oracles import KOLMOGOROV, distance, within

GOLDEN: Final = 0x9E3779B97F4A7C15
COUNT: Final = 20_000


def test_mixing_is_that_of_splitmix64() -> None:
    # The first three numbers of the reference implementation with seed 0.
    words = [mixed(GOLDEN * number % 2**64) for number in (1, 2, 3)]
    assert words == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_numbers_are_even_and_in_their_range() -> None:
    stream = Stream(7, 0)
    values = [stream.unit(place) for place in range(COUNT)]
    assert 0 < min(values) <= max(values) <= 1
    assert distance(values, lambda value: value) < KOLMOGOROV


def test_normal_numbers_are_normal() -> None:
    stream = Stream(7, 1)
    values = [stream.normal(place) for place in range(-COUNT // 2, COUNT // 2)]
    assert distance(values, lambda value: 0.5 * math.erfc(-value / math.sqrt(2))) < KOLMOGOROV


def correlation(first: list[float], second: list[float]) -> float:
    """Of evenly distributed numbers, in deviations of what independent ones give."""
    total = math.fsum((a - 0.5) * (b - 0.5) for a, b in zip(first, second, strict=True))
    return total * 12 / math.sqrt(len(first))


def test_streams_seeds_and_places_are_independent() -> None:
    values = {
        (seed, number): [Stream(seed, number).unit(place) for place in range(COUNT)]
        for seed in (0, 1, 2**64 - 1)
        for number in StreamNumber
    }
    series = list(values.values())
    for index, first in enumerate(series):
        assert abs(correlation(first[1:], first[:-1])) < 5
        for second in series[:index]:
            assert abs(correlation(first, second)) < 5


@pytest.mark.parametrize("probability", [0.9, 0.5, 0.01, 1e-6, 1e-12])
def test_failures_have_the_geometric_distribution(probability: float) -> None:
    stream, scale = Stream(3, 2), scale_of(probability)
    counts = [stream.failures(place, scale) for place in range(COUNT)]
    for share in (0.1, 0.5, 0.9):
        bound = max(1, int(math.log(share) / math.log1p(-probability)))
        longer = math.exp(bound * math.log1p(-probability))
        assert within(sum(count >= bound for count in counts), COUNT, longer)


@pytest.mark.parametrize(
    ("probability", "failures"),
    [(0.0, NEVER), (-0.0, NEVER), (5e-324, NEVER), (1e-300, NEVER), (1.0, 0), (1 - 2**-53, 0)],
)
def test_extreme_probabilities(probability: float, failures: int) -> None:
    stream = Stream(1, 1)
    assert {stream.failures(place, scale_of(probability)) for place in range(1000)} == {failures}


def test_a_fingerprint_depends_on_everything() -> None:
    prints = {
        Stream(seed, number).fingerprint(*values)
        for seed in (0, 1)
        for number in (0, 1)
        for values in ((), (0.0,), (0.5, 0.0), (0.0, 0.5), (0.5, 1e-300))
    }
    assert len(prints) == 20
