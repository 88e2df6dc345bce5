"""Texts about impairments."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

from epaird.client.counters import InterfaceCounters, LineCounters
from epaird.client.impairment import DirectionImpairment, ExpectedImpairment, LineStatistics, PairImpairment
from epaird.client.statistics import InterfaceStatistics, Statistics
from epaird.ctl import lines
from epaird.impairment.words import translated
from epaird.ipc.counters import LATE_BUCKETS_MAX

ASKED = ExpectedImpairment(0.01, 0.01, 1.0101, 10_000_000, 12_500)
NOTHING = [0] * LATE_BUCKETS_MAX


def counted(**counts: Any) -> LineCounters:  # noqa: ANN401
    return LineCounters(**{"impaired": {}, "late_buckets": NOTHING, **counts})


def reading(time: float, counters: LineCounters, octets: int, *, applied: bool = True) -> Statistics:
    peer = InterfaceStatistics(
        "epair0b", "eth0", "", InterfaceCounters(ibytes=octets, ipackets=octets // 100)
    )
    return Statistics(time, [peer], [], [LineStatistics("epair0a", "epair0b", applied, ASKED, counters)])


AFTER = counted(
    osegments=1100, isegments=1000, late_sum_ns=20_000_000, held_frames=3,
    impaired={"loss": 10, "schedule": 1, "ber": 0, "queue_full": 50, "aqm": 5},
    late_buckets=[0, 0, 980, 0, 15, 5, *[0] * (LATE_BUCKETS_MAX - 6)],
)  # fmt: skip


def test_what_was_delivered_stands_beside_what_was_asked() -> None:
    before = reading(10.0, counted(osegments=100), 0)
    found = lines.line_rates(before, reading(12.0, AFTER, 100_000))["epair0a"]
    assert (found.delay_seconds, found.late_seconds, found.late_p99_seconds) == (0.01, 20e-6, 100e-6)
    assert (found.loss_ratio, found.lost_ratio, found.queue_drop_ratio) == (0.01, 0.011, 0.055)
    assert found.bits_per_second == (100_000 + 24 * 1000) * 8 / 2
    heading, row = lines.line_rows({"epair0a": found})
    assert dict(zip(heading, row, strict=True)) == {
        "IMPAIRED": "epair0a", "delay": "10ms", "late": "20us", "late-p99": "100us", "loss": "1%",
        "lost": "1.1%", "queue-drops": "5.5%", "rate": "10mbit", "delivered": "496kbit", "held": "3",
    }  # fmt: skip


def test_segments_of_super_frames_count_with_their_headers() -> None:
    before = reading(0.0, counted(), 0)
    after = reading(1.0, counted(osegments=100, isegments=100), 1000)  # 10 frames
    assert lines.line_rates(before, after)["epair0a"].bits_per_second == 8 * (1000 + 24 * 100 + 66 * 90)


def test_without_traffic_there_are_no_ratios() -> None:
    same = reading(0.0, AFTER, 0)
    found = lines.line_rates(same, replace(same, time=1.0))["epair0a"]
    assert (found.late_seconds, found.late_p99_seconds, found.lost_ratio) == (None, None, None)
    _, row = lines.line_rows({"epair0a": found})
    assert row.count("-") == 4


def test_the_counters_of_another_interface_of_the_name_are_no_reference() -> None:
    found = lines.line_rates(reading(0.0, AFTER, 0), reading(1.0, counted(osegments=5), 0))["epair0a"]
    assert found.lost_ratio is None


def test_a_line_that_was_removed_is_shown_until_it_holds_nothing() -> None:
    before = reading(0.0, counted(), 0)
    assert lines.line_rates(before, reading(1.0, AFTER, 0, applied=False)) != {}
    assert lines.line_rates(before, reading(1.0, counted(), 0, applied=False)) == {}


def test_a_delivery_after_more_than_a_second() -> None:
    late = counted(osegments=1, late_buckets=[*[0] * (LATE_BUCKETS_MAX - 1), 1])
    found = lines.line_rates(reading(0.0, counted(), 0), reading(1.0, late, 0))["epair0a"]
    assert lines.line_rows({"epair0a": found})[1][3] == ">1s"


KEYS: dict[str, Any] = {
    "delay": "100ms",
    "loss": {"p": "1%", "r": "30%"},
    "schedule": [{"at": "10s", "loss": "100%"}],
    "rate": "10mbit",
    "queue": "codel",
    "ecn": True,
    "seed": 7,
}


def test_the_words_shown_are_those_that_make_the_same_impairment() -> None:
    direction = DirectionImpairment("epair0a", "epair0b", KEYS)
    assert translated(shlex.split(lines.as_words(direction))).patch == KEYS


def test_everything_about_an_impairment() -> None:
    both = PairImpairment(
        "epair0",
        [
            DirectionImpairment(
                "epair0a", "epair0b", {"delay": "10ms", "loss": "1%", "rate": "10mbit"}, "", 7,
                expected=ASKED, counters=replace(AFTER, cut=2, line_held_bytes=4500),
            ),
            DirectionImpairment("epair0b", ""),
        ],
        "adds 10ms to a round trip",
        12.3,
    )  # fmt: skip
    assert lines.shown(both).splitlines() == [
        "epair0a to epair0b: delay 10ms loss 1% rate 10mbit",
        "    seed:      7",
        "    expected:  delay 10ms, loss 1% in runs of 1.01 on average, "
        "rate 10mbit, for which 12.2kb are held",
        "    so far:    1000 of 1100 segments delivered, 10 dropped by loss (0.909%), "
        "1 dropped by schedule (0.0909%), 50 dropped by queue_full (4.55%), 5 dropped by aqm (0.455%), 2 cut",
        "    held:      3 frames, 4500 bytes",
        "    late:      20us on average, 99% within 100us",
        "epair0b to no peer: not impaired",
        "adds 10ms to a round trip",
        "expires in 12s",
    ]
    assert lines.answer(both).splitlines()[:2] == [
        "epair0a to epair0b: delay 10ms loss 1% rate 10mbit, seed 7", "epair0b to no peer: not impaired",
    ]  # fmt: skip


def test_every_segment_is_lost() -> None:
    expected = ExpectedImpairment(loss_ratio=1.0, loss_burst=None)
    direction = DirectionImpairment("epair0a", "epair0b", {"loss": "100%"}, seed=7, expected=expected)
    assert "expected:  every segment is lost" in lines.shown(PairImpairment("epair0a", [direction]))
