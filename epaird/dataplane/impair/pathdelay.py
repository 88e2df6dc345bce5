"""The delay of a path whose jitter never reorders: a random process of time, not a number for each segment.

1. Every knot, :func:`knot_distance` apart, has a value of the standard normal distribution.
2. Values of successive knots have the correlation that is asked for: each is the sum of independent values of
   its own and the knots before it, weighted by powers of the correlation. That is the stationary first-order
   autoregression, as a function of the knot's number alone.
3. Between knots values are interpolated, and divided by the deviation that the interpolation has at that
   moment, so that at every moment the value is standard normal.
4. The quantile function of the wanted distribution makes a delay of it.

So the mean and the distribution are the same however many segments pass, and two segments that follow each
other closely have nearly equal delays.

A delay is never negative. Where the jitter is so large that the distribution reaches below zero, negative
values become zero, and the mean is above the delay that was asked for: :func:`expected_delay` returns it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from operator import mul
from types import MappingProxyType
from typing import Final

from epaird.dataplane.impair.streams import Stream
from epaird.ipc.impairment import LONGEST_NS, LineParameters

KNOT_NS: Final = 40_000_000
"""Least distance of two knots in nanoseconds."""
KNOT_JITTERS: Final = 4
"""Distance of two knots in jitters, where that is more: the delay then hardly ever shrinks faster than time
passes, which would let a segment overtake another."""
PARETO_SHAPE: Final = 3.0
"""As in the tables of iproute2's netem."""
WINDOW_MAX: Final = 1024
"""Values that one knot depends on at most. Correlations above 99.3 % come out smaller: 99.9 % as 99.87 %."""

_PARETO_MEAN: Final = PARETO_SHAPE / (PARETO_SHAPE - 1)
_PARETO_DEVIATION: Final = math.sqrt(PARETO_SHAPE / ((PARETO_SHAPE - 1) ** 2 * (PARETO_SHAPE - 2)))
_PARETO_PART: Final = 0.75
_NORMAL_PART: Final = 0.25
_COVARIANCE: Final = 0.67835278955
"""Of a standard normal variable and the standardised Pareto variable that is made of it."""
_MIXED_DEVIATION: Final = math.sqrt(
    _PARETO_PART**2 + _NORMAL_PART**2 + 2 * _PARETO_PART * _NORMAL_PART * _COVARIANCE
)
_NEGLIGIBLE: Final = 1e-3
_DEVIATIONS: Final = 9
_STEPS: Final = 9000


def _above(value: float) -> float:
    """Return the probability that a standard normal variable is above ``value``."""
    return 0.5 * math.erfc(value / math.sqrt(2))


def _normal(value: float) -> float:
    return value


def _uniform(value: float) -> float:
    return 1 - 2 * _above(value)


def _pareto(value: float) -> float:
    return (math.pow(max(_above(value), 1e-300), -1 / PARETO_SHAPE) - _PARETO_MEAN) / _PARETO_DEVIATION


def _paretonormal(value: float) -> float:
    return (_PARETO_PART * _pareto(value) + _NORMAL_PART * value) / _MIXED_DEVIATION


QUANTILES: Final[Mapping[str, Callable[[float], float]]] = MappingProxyType(
    {"normal": _normal, "uniform": _uniform, "pareto": _pareto, "paretonormal": _paretonormal}
)
"""By the distribution's name, the function that gives it to a standard normal variable: of mean 0 and
standard deviation 1; ``uniform`` is between -1 and 1."""


def knot_distance(jitter_ns: int) -> int:
    """Return the distance of two knots in nanoseconds."""
    return max(KNOT_NS, KNOT_JITTERS * jitter_ns)


def expected_delay(parameters: LineParameters) -> float:
    """Return the mean of the delay in nanoseconds: above ``delay_ns`` where the jitter reaches below zero."""
    if not parameters.jitter_ns:
        return parameters.delay_ns
    quantile = QUANTILES[parameters.distribution]
    step = 2 * _DEVIATIONS / _STEPS
    added = 0.0
    for index in range(_STEPS):
        value = (index + 0.5) * step - _DEVIATIONS
        below = -(parameters.delay_ns + parameters.jitter_ns * quantile(value))
        if below <= 0:
            break
        added += below * math.exp(-value * value / 2)
    return parameters.delay_ns + added * step / math.sqrt(math.tau)


def _weights(correlation: float) -> tuple[float, ...]:
    """Return the weights of the values that a knot is made of, its own last, with squares that add up to
    1."""
    if correlation <= 0:
        return (1.0,)
    count = WINDOW_MAX
    if correlation < 1:
        count = min(WINDOW_MAX, 1 + math.ceil(math.log(_NEGLIGIBLE) / math.log(correlation)))
    powers = [correlation**index for index in reversed(range(count))]
    scale = math.sqrt(math.fsum(power * power for power in powers))
    return tuple(power / scale for power in powers)


class PathDelay:
    """The delay of one path, as a function of time."""

    __slots__ = (
        "_at", "_correlation", "_delay", "_distance", "_from", "_jitter", "_knot", "_knots", "_quantile",
        "_stream", "_values", "_weights",
    )  # fmt: skip

    def __init__(self, stream: Stream, parameters: LineParameters, applied_ns: int) -> None:
        """Knots are counted from ``applied_ns``, CLOCK_MONOTONIC in nanoseconds."""
        self._stream = stream
        self._delay = parameters.delay_ns
        self._jitter = parameters.jitter_ns
        self._quantile = QUANTILES[parameters.distribution]
        self._distance = knot_distance(parameters.jitter_ns)
        self._at = applied_ns
        self._weights = _weights(parameters.jitter_correlation)
        self._correlation = math.fsum(map(mul, self._weights, self._weights[1:]))
        self._values: deque[float] = deque(maxlen=len(self._weights))
        self._knot = -1
        self._knots = (0.0, 0.0)
        self._from = 0
        self._seek(applied_ns)

    def at(self, now_ns: int) -> int:
        """Return the delay in nanoseconds of what begins the path at this moment."""
        if not 0 <= now_ns - self._from < self._distance:
            self._seek(now_ns)
        part = (now_ns - self._from) / self._distance
        first, second = self._knots
        variance = 1 - 2 * part * (1 - part) * (1 - self._correlation)
        value = (first + part * (second - first)) / math.sqrt(variance)
        delay = int(self._delay + self._jitter * self._quantile(value))
        return min(max(0, delay), LONGEST_NS)

    def _seek(self, now_ns: int) -> None:
        """Compute the knots before and after a moment."""
        knot = (now_ns - self._at) // self._distance
        self._knots = self._value(knot), self._value(knot + 1)
        self._from = self._at + knot * self._distance

    def _value(self, knot: int) -> float:
        """Return the value of a knot. Values that it shares with the knot before are kept."""
        count = len(self._weights)
        first = knot - count + 1
        if self._values and 0 <= knot - self._knot < count:
            first = self._knot + 1
        self._values.extend(map(self._stream.normal, range(first, knot + 1)))
        self._knot = knot
        return math.fsum(map(mul, self._weights, self._values))
