"""Statistics of a few noisy rounds: medians, their spread, and ratios round by round. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

NOISY: Final = 0.15
"""Spread, half of the range over the median, above which a figure is unreliable by itself."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Summary of one figure over the rounds."""

    median: float
    """The median of the rounds."""
    low: float
    """The lowest of the rounds."""
    high: float
    """The highest of the rounds."""

    @property
    def spread(self) -> float:
        """Half of the range over the median: 0.1 is ten per cent up and down."""
        return (self.high - self.low) / 2 / abs(self.median) if self.median else 0.0

    @property
    def noisy(self) -> bool:
        """True when the spread is above NOISY."""
        return self.spread > NOISY


def summary(values: Sequence[float]) -> Summary | None:
    """Summarise the rounds that have a finite value; return None when none has."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return None
    return Summary(statistics.median(known), min(known), max(known))


def ratio(values: Sequence[float], references: Sequence[float]) -> Summary | None:
    """Summarise the ratios of values to references, computed round by round.

    A disturbance that lasts longer than a round affects both and cancels out, unlike in the ratio of the
    medians.
    """
    return summary(
        [value / reference for value, reference in zip(values, references, strict=True) if reference]
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the value that ``percent`` of a sorted, non-empty sequence do not exceed (nearest rank)."""
    rank = math.ceil(len(ordered) * percent / 100)
    return ordered[min(max(rank, 1), len(ordered)) - 1]
