"""Every pair of states: allowed or an internal error."""

from __future__ import annotations

from itertools import product

import pytest

from epaird.control.workers.states import (
    FORWARDING,
    SETTLED,
    TRANSITIONS,
    InvalidTransition,
    WorkerState,
    advance,
)

DEAD, SPAWNING, READY, RENEWING, DRAINING, STOPPED = WorkerState
ALLOWED = {
    (DEAD, SPAWNING), (DEAD, READY), (DEAD, STOPPED),
    (SPAWNING, READY), (SPAWNING, DEAD), (SPAWNING, STOPPED),
    (READY, RENEWING), (READY, DEAD), (READY, STOPPED),
    (RENEWING, DRAINING), (RENEWING, READY), (RENEWING, DEAD), (RENEWING, STOPPED),
    (DRAINING, READY), (DRAINING, DEAD), (DRAINING, STOPPED),
    (STOPPED, STOPPED),
}  # fmt: skip


@pytest.mark.parametrize(("state", "to"), list(product(WorkerState, repeat=2)))
def test_each_transition(state: WorkerState, to: WorkerState) -> None:
    if (state, to) in ALLOWED:
        assert advance(state, to) is to
    else:
        with pytest.raises(
            InvalidTransition, match=f"a worker that is {state.value} cannot become {to.value}"
        ):
            advance(state, to)


def test_every_state_has_transitions_and_leads_to_the_end() -> None:
    assert set(TRANSITIONS) == set(WorkerState)
    assert all(STOPPED in following for following in TRANSITIONS.values())


def test_a_process_may_die_whenever_it_takes_requests() -> None:
    assert all(DEAD in TRANSITIONS[state] for state in FORWARDING)
    assert {state for state in WorkerState if DEAD in TRANSITIONS[state]} == FORWARDING | {SPAWNING}


def test_a_request_waits_only_where_a_process_may_become_ready() -> None:
    assert set(WorkerState) - SETTLED == {DEAD, SPAWNING}
    assert all(READY in TRANSITIONS[state] for state in set(WorkerState) - SETTLED)
