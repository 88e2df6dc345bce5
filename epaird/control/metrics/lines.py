"""The metric families of impairment: what lines did, and what they were configured to do.

``device`` is the half that transmits. A half appears with its first impairment and stays until it is
destroyed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from epaird.control.metrics.exposition import Columns, Labels
from epaird.control.readings import LineReading
from epaird.impairment.expected import mean_loss
from epaird.ipc.counters import (
    IMPAIRMENT,
    LATE_BOUNDS_NS,
    LATE_BUCKETS,
    LATE_BUCKETS_MAX,
    LATE_SUM_NS,
    LINE_REASONS,
    Counter,
)
from epaird.ipc.impairment import LineParameters

CONFIGURED: Final[dict[str, tuple[Callable[[LineParameters], float], str]]] = {
    "delay_seconds": (lambda p: p.delay_ns / 1e9, "Configured one-way delay"),
    "jitter_seconds": (
        lambda p: p.jitter_ns / 1e9,
        "Configured standard deviation of the delay, half its width if it is uniform",
    ),
    "loss_ratio": (lambda p: mean_loss(p.loss), "Configured share of segments that are lost, on average"),
    "duplicate_ratio": (lambda p: p.duplicate, "Configured share of segments that are delivered twice"),
    "corrupt_ratio": (lambda p: p.corrupt, "Configured share of segments that are delivered corrupt"),
    "reorder_ratio": (lambda p: p.reorder, "Configured share of segments that overtake others"),
    "bit_error_ratio": (lambda p: p.ber, "Configured probability that a bit on the wire is wrong"),
    "rate_bytes_per_second": (lambda p: p.rate / 8, "Configured rate on the wire; 0 is no limit, or a trace"),
    "limit_bytes": (
        lambda p: p.limit_bytes,
        "Configured size of the queue before the rate; 0 is no limit in bytes",
    ),
    "limit_segments": (
        lambda p: p.limit_segments,
        "Configured size of the queue before the rate; 0 is no limit in segments",
    ),
}
"""Gauges of configured values: name, value, help."""
_LATE: Final = "epaird_impair_late_seconds"
_LATE_HELP: Final = "Time between the moment when frames were due and when they were delivered"


def line_families(lines: Sequence[LineReading]) -> Iterator[Metric]:
    """Return the families of all lines; the families are always the same."""
    labels = Labels(("device",), [(line.device,) for line in lines])
    reasons = Labels(("device", "reason"), [(line.device, name) for line in lines for name in LINE_REASONS])
    for counter in IMPAIRMENT:
        if counter.metric:
            yield _counted(counter, lines, reasons if counter.by_reason else labels)
    yield _late(lines)
    buffers = GaugeMetricFamily(
        "epaird_impair_buffer_bytes", "Configured memory for frames that are held; 0 without impairment"
    )
    buffers.samples = Columns(buffers.name, labels, [line.buffer for line in lines])  # type: ignore[assignment]
    yield buffers
    for name, (value, help_text) in CONFIGURED.items():
        family: Metric = GaugeMetricFamily(f"epaird_impair_{name}", help_text)
        family.samples = Columns(family.name, labels, [value(line.parameters) for line in lines])  # type: ignore[assignment]
        yield family


def _counted(counter: Counter, lines: Sequence[LineReading], labels: Labels) -> Metric:
    size = len(LINE_REASONS) if counter.by_reason else 1
    values = [value for line in lines for value in line.words[counter.word : counter.word + size]]
    if counter.type == "counter":
        family: Metric = CounterMetricFamily(counter.metric, counter.help)
        family.samples = Columns(f"{counter.metric}_total", labels, values)  # type: ignore[assignment]
    else:
        family = GaugeMetricFamily(counter.metric, counter.help)
        family.samples = Columns(counter.metric, labels, values)  # type: ignore[assignment]
    return family


def _late(lines: Sequence[LineReading]) -> Metric:
    family = HistogramMetricFamily(_LATE, _LATE_HELP, labels=("device",))
    bounds = [*(f"{bound / 1e9:g}" for bound in LATE_BOUNDS_NS), "+Inf"]
    for line in lines:
        counts = accumulate(line.words[LATE_BUCKETS : LATE_BUCKETS + LATE_BUCKETS_MAX])
        family.add_metric(
            (line.device,), list(zip(bounds, counts, strict=True)), line.words[LATE_SUM_NS] / 1e9
        )
    return family
