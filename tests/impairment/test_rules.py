from __future__ import annotations

from typing import Any

import pytest

from epaird.config.values import dotted
from epaird.impairment.rules import exclusions, faults, notes, schedule_faults

SHAPED = {"rate": "1mbit", "limit": "64kb"}


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {
            "delay": "1ms",
            "jitter": "1ms",
            "jitter_correlation": "1%",
            "distribution": "pareto",
            "reorder": "1%",
        },
        {"loss": "1%", "loss_burst": 3},
        {"loss": "1%", "loss_correlation": "3%"},
        {"loss": {"p": "1%"}},
        {**SHAPED, "queue": "codel", "ecn": True},
        {"trace": "x", "limit": "64kb", "queue": "droptail", "ecn": False},
        {"rate": "0bit", "trace": "x"},
        {"limit": "0p", "reorder": "0%", "loss_correlation": "0%", "jitter": "0s"},
        {"loss": "1%", "loss_burst": 3, "schedule": [{"loss": "100%", "for": "1s", "every": "1s"}]},
        {"schedule": [{"delay": "1ms", "reorder": "1%"}]},
        {"delay": "1ms", "reorder": "1%", "schedule": [{"delay": "0s"}]},
    ],
)
def test_what_can_be(keys: dict[str, Any]) -> None:
    assert list(faults(keys)) == []


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        (
            {"rate": "1mbit", "trace": "x"},
            "trace: cannot be combined with rate: a trace is a rate that changes",
        ),
        (
            {"loss": "1%", "loss_correlation": "1%", "loss_burst": 3},
            "loss_burst: cannot be combined with loss_correlation: each determines how long losses last",
        ),
        (
            {"loss": {"p": "1%"}, "loss_correlation": "1%"},
            "loss_correlation: cannot be combined with loss as a table: "
            "its r determines how long losses last",
        ),
        (
            {"loss": {"p": "1%"}, "loss_burst": 3},
            "loss_burst: cannot be combined with loss as a table: its r determines how long losses last",
        ),
        (
            {"jitter_correlation": "1%"},
            "jitter_correlation: needs jitter: it is the correlation of its values",
        ),
        ({"distribution": "normal"}, "distribution: needs jitter: it is the distribution of its values"),
        ({"reorder": "1%"}, "reorder: needs delay: a segment overtakes those that are delayed"),
        (
            {"reorder": "1%", "delay": "0s"},
            "reorder: needs delay: a segment overtakes those that are delayed",
        ),
        (
            {"loss_correlation": "1%"},
            "loss_correlation: needs loss: it is the correlation of neighbouring losses",
        ),
        ({"loss_burst": 3}, "loss_burst: needs loss: it is the mean length of its runs"),
        (
            {"limit": "1kb"},
            "limit: needs rate or trace: without them no queue forms, and delay never drops",
        ),
        ({"queue": "codel"}, "queue: needs rate or trace: without them no queue forms"),
        (
            {**SHAPED, "ecn": True},
            'ecn: true needs queue = "codel", which marks instead of dropping',
        ),
        (
            {**SHAPED, "ecn": True, "queue": "droptail"},
            'ecn: true needs queue = "codel", which marks instead of dropping',
        ),
        (
            {"loss": "51%", "loss_burst": 1},
            "loss_burst: 1 is too short for a loss of 51%: the mean run is at least 1.041, "
            "or the loss at most 50%",
        ),
        (
            {"loss": {"p": "0%", "r": "0%"}},
            "loss: p and r are both 0%, so the state would never change: one of them must be above 0%",
        ),
        ({"schedule": [{"at": "1s"}]}, "schedule[0]: changes nothing, it needs a key such as loss or delay"),
        (
            {"schedule": [{"loss": "1%"}, {"loss": "1%", "every": "2s"}]},
            "schedule[1].every: needs for, the part of the time that it is in force",
        ),
        (
            {"schedule": [{"loss": "1%", "for": "3s", "every": "2s"}]},
            'schedule[0].for: 3s is longer than every = "2s", after which it begins again',
        ),
        (
            {"trace": "x", "schedule": [{"rate": "1mbit"}]},
            "schedule[0].rate: cannot be combined with trace: a trace is a rate that changes",
        ),
        (
            {"schedule": [{"reorder": "1%"}]},
            "schedule[0].reorder: needs delay: a segment overtakes those that are delayed",
        ),
        (
            {"loss": "1%", "schedule": [{"loss": "100%", "loss_burst": 3}]},
            'schedule[0].loss_burst: with loss = "100%" a run of losses never ends, leave loss_burst out',
        ),
        (
            {**SHAPED, "queue": "codel", "ecn": True, "schedule": [{"queue": "droptail"}]},
            'schedule[0].queue: ecn true needs queue = "codel", which marks instead of dropping',
        ),
    ],
)
def test_what_cannot_be(keys: dict[str, Any], fault: str) -> None:
    assert [f"{dotted(each.place)}: {each.message}" for each in faults(keys)] == [fault]


def test_a_table_alone_is_examined_for_what_excludes_itself_only() -> None:
    assert list(exclusions({"limit": "1kb", "loss_burst": 3})) == []


def test_times_of_a_carrier() -> None:
    assert list(schedule_faults([{"carrier": "off", "for": "1s", "every": "2s"}, {"carrier": "off"}])) == []
    (fault,) = schedule_faults([{"carrier": "off"}, {"carrier": "off", "every": "2s"}])
    assert fault.place == (1, "every")


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({"delay": "10ms", "jitter": "10ms"}, []),
        (
            {"delay": "10ms", "jitter": "11ms"},
            [("jitter", "11ms is more than the delay (10ms): no delay is less than 0, the mean grows")],
        ),
        (
            {"jitter": "11ms"},
            [("jitter", "11ms is more than the delay (none): no delay is less than 0, the mean grows")],
        ),
        (SHAPED, []),
        ({"rate": "1mbit", "queue": "codel"}, []),
        ({"rate": "0bit"}, []),
        (
            {"rate": "1mbit"},
            [
                (
                    "rate",
                    "without limit the queue is as long as buffer and the kernel's ring, "
                    "and TCP fills both: round trips grow to seconds",
                )
            ],
        ),
        ({"delay": "100ms", "rate": "5gbit", "limit": "1mb"}, []),
        (
            {"delay": "100ms", "rate": "10gbit", "limit": "1mb"},
            [
                (
                    "delay",
                    "delay times rate is 119mb, more than the buffer of 64mb: the rate is not reached",
                )
            ],
        ),
        ({"delay": "100ms", "rate": "10gbit", "limit": "1mb", "buffer": "256mb"}, []),
    ],
)
def test_what_may_surprise(keys: dict[str, Any], found: list[tuple[str, str]]) -> None:
    assert list(notes(keys)) == found
