"""The schedule: which phase applies, and when to ask again."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.dataplane.impair.schedule import applies, parameters_at
from epaird.dataplane.impair.streams import NEVER
from epaird.ipc.impairment import LineParameters, LineSpec, Phase

BEGIN: Final = 1000
SMALL: Final = st.integers(0, 12)

phases = st.lists(st.builds(Phase, SMALL, SMALL, SMALL), max_size=4).map(
    lambda found: tuple(
        Phase(phase.at_ns, phase.for_ns, phase.every_ns, LineParameters(delay_ns=number))
        for number, phase in enumerate(found, 1)
    )
)


@pytest.mark.parametrize(
    ("phase", "moments"),
    [
        (Phase(2, 3), [2, 3, 4]),
        (Phase(2, 0), list(range(2, 14))),
        (Phase(2, 3, 5), [2, 3, 4, 7, 8, 9, 12, 13]),
        (Phase(2, 5, 5), list(range(2, 14))),
        (Phase(2, 9, 5), list(range(2, 14))),
        (Phase(2, 0, 5), list(range(2, 14))),
        (Phase(0, 1, 6), [0, 6, 12]),
    ],
)
def test_when_a_phase_applies(phase: Phase, moments: list[int]) -> None:
    assert [moment for moment in range(-3, 14) if applies(phase, moment)] == moments


@given(phases)
def test_the_last_phase_of_those_that_apply_counts(found: tuple[Phase, ...]) -> None:
    spec = LineSpec(applied_ns=BEGIN, phases=found)
    for moment in range(-3, 40):
        numbers = [number for number, phase in enumerate(found, 1) if applies(phase, moment)]
        parameters, _ = parameters_at(spec, BEGIN + moment)
        assert parameters.delay_ns == max(numbers, default=0)


@given(phases)
def test_nothing_changes_before_the_next_change(found: tuple[Phase, ...]) -> None:
    spec = LineSpec(applied_ns=BEGIN, phases=found)
    parameters, change = parameters_at(spec, BEGIN - 3)
    for now in range(BEGIN - 3, BEGIN + 60):
        present, following = parameters_at(spec, now)
        if now < change:
            assert present == parameters
            assert following == change
        parameters, change = present, following
        assert change > now


def test_without_phases_nothing_ever_changes() -> None:
    _, change = parameters_at(LineSpec(applied_ns=BEGIN), BEGIN)
    assert change >= NEVER
