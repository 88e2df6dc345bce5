"""What a few noisy rounds say: medians, how far they spread, and ratios taken round by round.  Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

NOISY: Final = 0.15
"""Half of the range of the rounds, over their median: above this a figure says little by itself."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One figure over the rounds."""

    median: float
    low: float
    """The lowest of the rounds."""
    high: float

    @property
    def spread(self) -> float:
        """Half of the range over the median: 0.1 is ten per cent up and down."""
        return (self.high - self.low) / 2 / abs(self.median) if self.median else 0.0

    @property
    def noisy(self) -> bool:
        return self.spread > NOISY


def summary(values: Sequence[float]) -> Summary | None:
    """Over the rounds that have a value; None when none has."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return None
    return Summary(statistics.median(known), min(known), max(known))


def ratio(ours: Sequence[float], others: Sequence[float]) -> Summary | None:
    """Ours over the other's, each round's against that same round's.

    What disturbs the machine for longer than a round disturbs both and cancels out, which it does not in
    the ratio of the medians."""
    return summary([our / other for our, other in zip(ours, others, strict=True) if other])


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value that ``percent`` of a sorted, non-empty sequence do not exceed (nearest rank)."""
    rank = math.ceil(len(ordered) * percent / 100)
    return ordered[min(max(rank, 1), len(ordered)) - 1]
