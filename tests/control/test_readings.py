"""Readings of an interface by the catalogue's words."""

from __future__ import annotations

from dataclasses import fields

from epaird.control.readings import LineReading, WorkerReading
from epaird.ipc.counters import (
    LATE_BUCKETS_MAX,
    LINE_REASONS,
    LINE_STATISTICS,
    REASONS,
    SLOT_WORDS,
    STATISTICS,
    WORKER,
)
from epaird.ipc.impairment import LineParameters, LossChain
from tests.control.samples import interface


def test_every_statistic_has_its_own_word() -> None:
    counts = {
        each.name: tuple(range(100 * place, 100 * place + len(REASONS))) if each.by_reason else 100 * place
        for place, each in enumerate(STATISTICS, 1)
    }
    stats = vars(interface("epair0a", **counts).stats)
    for name, count in counts.items():
        assert stats[name] == (dict(zip(REASONS, count, strict=True)) if isinstance(count, tuple) else count)


def test_the_properties_are_of_their_words() -> None:
    reading = interface("epair0a", in_flight=3, listed=2, held_bytes=4096, oactive=1)
    assert (reading.refs, reading.held_bytes, reading.oactive) == (6, 4096, True)
    assert interface("epair0a").refs == 1


def test_the_counters_of_a_line_are_of_their_words() -> None:
    line = interface("epair0a").line  # whose words are their own numbers
    assert line is not None
    counters = vars(line.counters)
    for each in LINE_STATISTICS:
        found = counters[each.name]
        if each.by_reason:
            assert found == {name: each.word + number for number, name in enumerate(LINE_REASONS)}
        elif each.histogram:
            assert found == list(range(each.word, each.word + LATE_BUCKETS_MAX))
        else:
            assert found == each.word
    assert (line.expected.delay_seconds, line.expected.bits_per_second) == (0.1, 10**7)
    assert line.expected.held_bytes == 125_000


def test_where_every_segment_is_lost_the_run_has_no_length() -> None:
    lossy = LineParameters(loss=LossChain(p=1.0, r=0.0))
    expected = LineReading("epair0a", [0] * SLOT_WORDS, lossy).expected
    assert (expected.loss_ratio, expected.loss_burst) == (1.0, None)


def test_every_metric_of_workers_is_a_field() -> None:
    known = {each.name for each in fields(WorkerReading)}
    assert {each.name for each in WORKER if each.metric} <= known
