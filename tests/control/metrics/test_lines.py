"""The families of impairment: from the words of a line, and from what was configured."""

from __future__ import annotations

from prometheus_client.core import Metric

from epaird.control.metrics.lines import line_families
from epaird.control.readings import LineReading
from epaird.ipc.counters import (
    IMPAIRED,
    LATE_BUCKETS,
    LATE_SUM_NS,
    LINE_HELD_BYTES,
    LINE_REASONS,
    REORDERED,
    SLOT_WORDS,
)  # fmt: skip
from epaird.ipc.impairment import LineParameters, LossChain


def families(words: dict[int, int], parameters: LineParameters) -> dict[str, Metric]:
    counts = [words.get(word, 0) for word in range(SLOT_WORDS)]
    return {each.name: each for each in line_families([LineReading("epair0a", counts, parameters)])}


def test_delivered_stands_beside_configured() -> None:
    found = families(
        {IMPAIRED + LINE_REASONS.index("ber"): 5, REORDERED: 3, LINE_HELD_BYTES: 9},
        LineParameters(delay_ns=25_000_000, loss=LossChain(p=0.01, r=0.99), rate=10**7),
    )
    values = {
        (name, sample.labels.get("reason", "")): sample.value
        for name, family in found.items()
        for sample in family.samples
    }
    assert values["epaird_impaired", "ber"] == 5
    assert values["epaird_impaired", "loss"] == 0
    assert values["epaird_reordered", ""] == 3
    assert values["epaird_impair_held_bytes", ""] == 9
    assert values["epaird_impair_delay_seconds", ""] == 0.025
    assert abs(values["epaird_impair_loss_ratio", ""] - 0.01) < 1e-12
    assert values["epaird_impair_rate_bytes_per_second", ""] == 1_250_000


def test_the_histogram_is_cumulative() -> None:
    late = families({LATE_BUCKETS: 2, LATE_BUCKETS + 4: 3, LATE_BUCKETS + 15: 1, LATE_SUM_NS: 10**9},
                    LineParameters())["epaird_impair_late_seconds"]  # fmt: skip
    counts = {each.labels.get("le"): each.value for each in late.samples if each.name.endswith("_bucket")}
    assert (counts["1e-05"], counts["0.0001"], counts["1"], counts["+Inf"]) == (2, 5, 5, 6)
    (total,) = (each.value for each in late.samples if each.name.endswith("_sum"))
    assert total == 1.0


def test_there_are_the_same_families_without_lines() -> None:
    names = [each.name for each in line_families([])]
    assert names == list(families({}, LineParameters()))
