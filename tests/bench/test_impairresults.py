from __future__ import annotations

import json
from dataclasses import replace

import pytest

from epaird.bench.impairplan import WINDOW
from epaird.bench.impairresults import (
    MANY,
    NO_POLLING,
    PAYLOAD_SHARE,
    RATE_GIVEN,
    SUBJECT,
    TCP,
    THEORY,
    UDP,
    WITHOUT,
    ImpairmentResults,
)
from epaird.bench.results import StreamFigures
from tests.bench.samples import impaired


def test_rows() -> None:
    measured = impaired()
    groups = list(dict.fromkeys(row.group for row in measured.rows()))
    errors = [measured.error_group(delay_ms) for delay_ms in (1, 10, 100)]
    assert groups == [TCP, UDP, RATE_GIVEN, *errors, MANY]
    assert {row.columns for row in (*measured.group(TCP), *measured.group(UDP))} == {WITHOUT}
    assert [row.label for row in measured.group(errors[0])] == ["p50", "p90", "p99", "p99.9"]
    assert all(row.columns == NO_POLLING and row.better == "less" for row in measured.group(errors[0]))


def test_impaired_cables_are_compared_with_the_same_cable_in_the_same_round() -> None:
    for group in (TCP, UDP):
        for row in impaired().group(group):
            assert row.ratio is not None
            assert (row.ratio.median, row.ratio.low, row.ratio.high) == pytest.approx((0.5, 0.4, 0.6))


def test_rates_are_compared_with_theory() -> None:
    rows = impaired().group(RATE_GIVEN)
    assert [row.label for row in rows] == ["10mbit", "100mbit", "1gbit"]
    for row, mbit in zip(rows, (10, 100, 1000), strict=True):
        assert row.values[THEORY[0]] == pytest.approx([mbit * PAYLOAD_SHARE] * 3)
        assert row.ratio is not None
        assert row.ratio.median == pytest.approx(1)
        assert row.exact


def test_losses_are_those_of_all_rounds() -> None:
    measured = impaired()
    (row,) = measured.group(MANY)
    assert row.lost == pytest.approx({"delivered": 0.05})
    assert measured.lost(SUBJECT, "tcp") == 0
    assert measured.lost(SUBJECT, "delay-1-polling-off") == 0


def test_remarks() -> None:
    measured = impaired()
    assert measured.congestion == "bbr"
    assert not any("BBR" in line or "Windows" in line for line in measured.remarks())


def test_a_kernel_without_bbr_is_noted() -> None:
    measured = impaired(congestion="cubic")
    assert "This kernel has no BBR: the stream with loss used cubic." in measured.remarks()
    assert "and 1 % loss, cubic" in [row.label for row in measured.group(TCP)]


def test_small_windows_are_noted() -> None:
    measured = impaired((0.5,))
    (round_,) = measured.rounds
    jobs = {
        key: replace(found, window=WINDOW // 4) if isinstance(found, StreamFigures) else found
        for key, found in round_[SUBJECT].items()
    }
    limited = ImpairmentResults(measured.machine, measured.plan, [{SUBJECT: jobs}])
    assert any(line.startswith("Windows were limited to 64 MB:") for line in limited.remarks())


def test_json() -> None:
    measured = impaired()
    written = json.loads(json.dumps(measured.as_json(), allow_nan=False))
    assert written["part"] == "impairment"
    assert written["rounds"][0][SUBJECT]["delay-1-polling-on"]["mean_us"] == 7.0
    assert len(written["summary"]) == len(measured.rows())
    assert {"without", "with", "ratio"} <= written["summary"][0].keys()
