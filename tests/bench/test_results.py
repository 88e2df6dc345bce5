from __future__ import annotations

import json
import math

import pytest

from epaird.bench.results import CPU, FORWARDER, PAIRS, RATE, ROUND_TRIP, VOLUME
from tests.bench.samples import results


def test_rows() -> None:
    rows = results().rows()
    assert list(dict.fromkeys(row.group for row in rows)) == [RATE, VOLUME, ROUND_TRIP, CPU, FORWARDER, PAIRS]
    first = rows[0]
    assert (first.label, first.better) == ("64 bytes", "more")
    assert first.values["epaird"] == pytest.approx((450_000, 420_000, 480_000))
    assert first.ratio is not None
    assert first.ratio.median == pytest.approx(1.4 / 0.9)
    assert first.lost == pytest.approx({"veth": 0.05, "epaird": 0.05})


def test_less_is_better_where_it_is() -> None:
    for row in results().rows():
        assert row.better == ("less" if row.unit == "µs" else "more")


def test_the_kernel_has_no_forwarder() -> None:
    for row in results().group(FORWARDER):
        assert row.ratio is None
        assert row.summary("veth") is None
        assert row.summary("epaird") is not None


def test_the_series_over_pairs_begins_with_one() -> None:
    measured = results()
    labels = [row.label for row in measured.group(PAIRS)]
    assert labels == ["1 pair", "2 pairs", "4 pairs", "8 pairs", "16 pairs"]
    assert measured.group(PAIRS)[0].values == measured.group(RATE)[0].values


def test_totals() -> None:
    measured = results()
    jobs = sum(job.kind == "datagrams" for job in measured.plan.jobs)
    assert measured.delivered("veth") == 3 * jobs * 190_000
    assert measured.reordered("epaird") == 0


def test_json() -> None:
    measured = results()
    written = json.loads(json.dumps(measured.as_json(), allow_nan=False))
    assert written["format"] == 1
    assert len(written["rounds"]) == 3
    assert written["rounds"][0]["epaird"]["udp-64"]["delivered"] == 190_000
    assert written["rounds"][0]["veth"]["udp-64"]["forwarder_cpu_us"] is None
    assert written["summary"][0]["veth"] == {"median": 300_000, "low": 270_000, "high": 300_000}
    assert len(written["summary"]) == len(measured.rows())
    assert not any(math.isnan(row["ratio"]["median"]) for row in written["summary"] if row["ratio"])
