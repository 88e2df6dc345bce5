"""The impairment of a line as messages carry it: which numbers no line can have."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.dataplane.impair.decisions import Decisions
from epaird.dataplane.impair.fates import Fate
from epaird.ipc.impairment import (
    BUFFER_MAX,
    DISTRIBUTIONS,
    FATES,
    LONGEST_NS,
    PHASES_MAX,
    RATE_MAX,
    TIME_MAX_NS,
    LineParameters,
    LineSpec,
    LossChain,
    Phase,
)

RATIOS = st.floats(0, 1)
TIMES = st.integers(0, TIME_MAX_NS)
PARAMETERS = st.builds(
    LineParameters,
    TIMES, TIMES, RATIOS, st.sampled_from(DISTRIBUTIONS), st.builds(LossChain, *[RATIOS] * 4),
    *[RATIOS] * 4, st.integers(0, RATE_MAX), *[st.integers(0, 2**63 - 1)] * 2, st.booleans(), st.booleans(),
)  # fmt: skip
LINES = st.builds(
    LineSpec,
    st.integers(0, 65535), st.integers(0, 2**64 - 1), TIMES, st.integers(1, BUFFER_MAX), PARAMETERS,
    st.lists(st.builds(Phase, TIMES, TIMES, TIMES, PARAMETERS), max_size=PHASES_MAX).map(tuple),
)  # fmt: skip


def having(key: str, value: Any) -> LineParameters:  # noqa: ANN401
    return LineParameters(**{key: value})


def test_the_fates_are_those_of_the_workers() -> None:
    assert [fate.name.lower() for fate in Fate] == list(FATES)
    assert [fate.value for fate in Fate] == list(range(1, len(FATES) + 1))


@given(LINES)
def test_a_line_in_range_has_no_fault(line: LineSpec) -> None:
    assert list(line.faults()) == []


def test_the_parameters_of_a_new_line_do_nothing() -> None:
    """Only so does a message without them mean no impairment."""
    defaults = dataclasses.asdict(LineParameters())
    assert defaults.pop("distribution") == "normal"
    assert defaults.pop("loss") == {"p": 0, "r": 1, "bad": 1, "good": 0}
    assert not any(defaults.values())


@pytest.mark.parametrize(
    "parameters",
    [
        *(LineParameters(loss=LossChain(**{key: value})) for key in ("p", "r", "bad", "good")
          for value in (-0.1, 1.1, float("nan"), float("inf"))),
        *(having(key, 2.0) for key in ("duplicate", "corrupt", "ber", "reorder")),
        *(having(key, -1) for key in ("delay_ns", "jitter_ns", "rate", "limit_bytes")),
        LineParameters(distribution="gauss"),
        LineParameters(delay_ns=TIME_MAX_NS + 1),
    ],
)  # fmt: skip
def test_a_fault_is_found_outside_and_inside_the_schedule(parameters: LineParameters) -> None:
    assert list(LineSpec(parameters=parameters).faults())
    (fault,) = LineSpec(phases=(Phase(), Phase(parameters=parameters))).faults()
    assert fault.isprintable()


@given(
    st.sampled_from(["uniform", "normal"]), st.integers(0, 10**10), st.integers(0, 10**10),
    st.integers(0, 10**12), st.integers(1, 1 << 20), st.lists(st.integers(0, 10**9), min_size=1, max_size=20),
)  # fmt: skip
def test_nothing_is_due_after_the_longest_time(
    distribution: str, delay_ns: int, jitter_ns: int, rate: int, buffer: int, pauses: list[int]
) -> None:
    """``buffer`` bytes of the shortest frames arrive at once: they take most of the wire."""
    usual = LineParameters()
    parameters = LineParameters(delay_ns, jitter_ns, distribution=distribution, rate=rate)
    spec = LineSpec(parameters=usual, buffer=buffer, phases=(Phase(parameters=parameters),))
    now_ns = 10**12
    for pause in pauses:
        decisions = Decisions(spec)
        now_ns += pause
        decisions.judge(now_ns, [84] * (1 + buffer // 14))
        due = decisions.deadline(now_ns, 84 * (1 + buffer // 14))
        assert not isinstance(due, Fate)
        assert min(due - now_ns, LONGEST_NS) <= spec.longest() <= LONGEST_NS


@pytest.mark.parametrize(
    "spec",
    [
        LineSpec(trace=True),
        LineSpec(parameters=LineParameters(jitter_ns=1, distribution="pareto")),
        LineSpec(parameters=LineParameters(jitter_ns=1, distribution="paretonormal")),
        LineSpec(phases=(Phase(), Phase(parameters=LineParameters(rate=1)))),
    ],
)
def test_the_longest_time_is_the_most_that_a_user_can_set_where_none_is_known(spec: LineSpec) -> None:
    assert spec.longest() == LONGEST_NS
    assert list(LineSpec(longest_ns=LONGEST_NS + 1).faults())
