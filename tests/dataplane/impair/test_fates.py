"""Fates: the numbers in a log stay readable."""

from __future__ import annotations

from epaird.dataplane.impair.fates import DROPS, Fate


def test_numbers_are_those_of_logs_that_were_written() -> None:
    assert {fate.name: int(fate) for fate in Fate} == {
        "LOSS": 1, "BER": 2, "SCHEDULE": 3, "DUPLICATE": 4, "CORRUPT": 5, "REORDER": 6, "QUEUE_FULL": 7,
        "AQM": 8, "MARK": 9,
    }  # fmt: skip


def test_marks_are_delivered() -> None:
    assert {fate for fate in Fate if fate not in DROPS} == {
        Fate.DUPLICATE, Fate.CORRUPT, Fate.REORDER, Fate.MARK,
    }  # fmt: skip
