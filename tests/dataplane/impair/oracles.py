"""Bounds for random counts, and distances of distributions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

SIGMAS: Final = 5


def within(count: int, trials: int, probability: float, spread: float = 1.0) -> bool:
    """Whether a count is within five deviations of what independent trials give; ``spread`` multiplies the
    variance."""
    deviation = math.sqrt(trials * probability * (1 - probability) * spread)
    return abs(count - trials * probability) <= SIGMAS * deviation + 1


def distance(values: Sequence[float], distribution: Callable[[float], float]) -> float:
    """The Kolmogorov-Smirnov statistic of independent values, multiplied by the root of their number."""
    ordered = sorted(values)
    count = len(ordered)
    largest = 0.0
    for index, value in enumerate(ordered):
        expected = distribution(value)
        largest = max(largest, expected - index / count, (index + 1) / count - expected)
    return largest * math.sqrt(count)


KOLMOGOROV: Final = 2.0
"""Values of :func:`distance` above this have a probability of 0.0007."""
