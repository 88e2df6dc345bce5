"""Readings of an interface by the catalogue's words."""

from __future__ import annotations

from dataclasses import fields

from epaird.control.readings import WorkerReading
from epaird.ipc.counters import REASONS, STATISTICS, WORKER
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


def test_every_metric_of_workers_is_a_field() -> None:
    known = {each.name for each in fields(WorkerReading)}
    assert {each.name for each in WORKER if each.metric} <= known
