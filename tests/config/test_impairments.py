from __future__ import annotations

from typing import Any

import pytest

from epaird.config.impairments import traces
from epaird.config.reading import InvalidConfiguration, parse, remarks


def pair(document: dict[str, Any], **sets: dict[str, Any]) -> dict[str, Any]:
    return {"epair": {"epair0": document}, "impairment": sets}


def refused(document: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(InvalidConfiguration) as caught:
        parse(document)
    return caught.value.problems


def test_a_conflict_of_a_pair_is_reported_once_and_at_its_place() -> None:
    assert refused(pair({"impair": {"reorder": "1%"}})) == (
        "epair.epair0.impair.reorder: needs delay: a segment overtakes those that are delayed",
    )
    assert refused(pair({"a": {"impair": {"limit": "1kb"}}, "b": {"impair": {"loss_burst": 3}}})) == (
        "epair.epair0.a.impair.limit: needs rate or trace: "
        "without them no queue forms, and delay never drops",
        "epair.epair0.b.impair.loss_burst: needs loss: it is the mean length of its runs",
    )


def test_the_tables_of_a_direction_are_checked_together() -> None:
    parse(pair({"impair": {"delay": "1ms"}, "a": {"impair": {"reorder": "1%"}}, "b": {}}))
    parse(pair({"impair": {"preset": "x"}, "a": {"impair": {"limit": "1kb"}}}, x={"rate": "1mbit"}))
    assert refused(pair({"impair": {"loss": "60%"}, "a": {"impair": {"loss_burst": 1}}})) == (
        "epair.epair0.a.impair.loss_burst: 1 is too short for a loss of 60%: the mean run is at least 1.5, "
        "or the loss at most 50%",
    )
    halves = {"a": {"impair": {"loss": "60%"}}, "b": {"impair": {"loss": "1%"}}}
    assert refused(pair({"impair": {"loss_burst": 1}, **halves})) == (
        "epair.epair0.impair.loss_burst: 1 is too short for a loss of 60%: the mean run is at least 1.5, "
        "or the loss at most 50%",
    )


def test_a_conflict_in_a_set_is_reported_there() -> None:
    both = {"rate": "1mbit", "trace": "x", "schedule": [{"loss": "1%", "for": "2s", "every": "1s"}]}
    lines = (
        "impairment.x.trace: cannot be combined with rate: a trace is a rate that changes",
        'impairment.x.schedule[0].for: 2s is longer than every = "1s", after which it begins again',
    )
    assert refused(pair({}, x=both)) == lines
    assert refused(pair({"impair": {"preset": "x"}}, x=both)) == lines
    assert refused(pair({"impair": {"preset": "x"}}, x={"limit": "1kb"})) == (
        "impairment.x.limit: needs rate or trace: without them no queue forms, and delay never drops",
    )
    assert refused(pair({"a": {"impair": {"preset": "dsl-up", "schedule": [{"trace": "x"}]}}})) == (
        "epair.epair0.a.impair.schedule[0].trace: unknown key here, "
        "it belongs to an impairment, [epair.epair0.impair]",
    )


def test_a_set_that_does_not_exist() -> None:
    (line,) = refused(pair({"b": {"impair": {"preset": "x"}}}, lte={}))
    assert line.startswith('epair.epair0.b.impair.preset: there is no set "x", the sets are lte, edge-down, ')


def test_a_conflict_whose_cause_was_refused_is_left_out() -> None:
    halves = {"a": {"impair": {"delay": 3}}, "b": {"impair": {"delay": "1s"}}}
    assert refused(pair({"impair": {"reorder": "1%"}, **halves})) == (
        'epair.epair0.a.impair.delay: 3 has no unit, as in "3ms"',
    )
    assert refused(pair({"impair": {"preset": "x"}}, x=3)) == (  # type: ignore[arg-type]
        "impairment.x: 3 is not a table, write [impairment.x]",
    )
    assert refused(pair({"impair": {"preset": "x", "limit": "1kb"}}, x={"rate": 3})) == (
        'impairment.x.rate: 3 has no unit, as in "3mbit"',
    )


def test_times_of_a_carrier() -> None:
    schedule = [{"for": "3s", "every": "2s", "carrier": "off"}, {"every": "2s", "carrier": "off"}]
    assert refused(pair({"schedule": schedule})) == (
        'epair.epair0.schedule[0].for: 3s is longer than every = "2s", after which it begins again',
        "epair.epair0.schedule[1].every: needs for, the part of the time that it is in force",
    )


def test_what_may_surprise_is_noted_once_and_at_its_place() -> None:
    unlimited = (
        "without limit the queue is as long as buffer and the kernel's ring, and TCP fills both: "
        "round trips grow to seconds"
    )
    found = pair(
        {
            "impair": {"preset": "x", "delay": "1ms"},
            "a": {"impair": {"jitter": "2ms"}},
            "carrier": "off",
            "schedule": [{"carrier": "off", "at": "1s"}],
            "queues": 4,
        },
        x={"rate": "1mbit"},
    )
    assert remarks(parse(found)) == (
        "epair.epair0.a.impair.jitter: 2ms is more than the delay (1ms): no delay is less than 0, "
        "the mean grows",
        f"impairment.x.rate: {unlimited}",
        "epair.epair0.queues: one worker has all queues of an impaired pair",
        'epair.epair0.schedule: has no effect, with carrier = "off" the halves never have a carrier',
    )
    assert remarks(parse(pair({"impair": {"preset": "dsl-up"}}))) == (
        f"epair.epair0.impair.preset: {unlimited}",
    )


def test_traces_and_their_places() -> None:
    found = pair(
        {"impair": {"trace": "t"}, "a": {"impair": {"trace": "", "rate": "1mbit"}}}, x={"trace": "u"}
    )
    assert dict(traces(parse(found))) == {
        ("epair", "epair0", "impair", "trace"): "t",
        ("impairment", "x", "trace"): "u",
    }
