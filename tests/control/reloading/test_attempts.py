from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from epaird.control.reloading.attempts import FIRST_S, LONGEST_S, Attempts

NAME = "epair0"
LOOKS = st.lists(
    st.tuples(st.floats(0.001, 30), st.sampled_from(["exists", "possible", "impossible"])), max_size=80
)
"""Seconds since the look before, and what is found."""


def found(state: str) -> dict[str, bool]:
    return {} if state == "exists" else {NAME: state == "possible"}


@given(LOOKS)
def test_attempts_never_follow_each_other_faster_than_the_growing_pause(
    looks: list[tuple[float, str]],
) -> None:
    attempts, now, tried = Attempts(), 0.0, [-math.inf]
    pause = FIRST_S
    for seconds, state in looks:
        now += seconds
        if state == "exists" and now - tried[-1] >= LONGEST_S:
            pause = FIRST_S
        if attempts.due(now, found(state)):
            assert state == "possible"
            assert now - tried[-1] >= pause
            tried.append(now)
            pause = min(2 * pause, LONGEST_S)
            assert attempts.pause(NAME) == pause


@given(LOOKS)
def test_what_is_possible_for_long_enough_is_tried(looks: list[tuple[float, str]]) -> None:
    attempts, now = Attempts(), 0.0
    for seconds, state in looks:
        now += seconds
        attempts.due(now, found(state))
    for _ in range(int(LONGEST_S) + 2):
        now += 1.0
        if attempts.due(now, {NAME: True}):
            return
        assert now < attempts.next() <= now + LONGEST_S
    raise AssertionError("it was not tried")


def test_a_loss_is_tried_after_a_second_and_then_after_twice_the_pause() -> None:
    attempts = Attempts()
    tried = [seconds for seconds in range(300) if attempts.due(float(seconds), {NAME: True})]
    assert tried == [1, 3, 7, 15, 31, 63, 123, 183, 243]
    assert attempts.pause("another") == FIRST_S


def test_what_waited_for_its_namespace_is_tried_at_once_when_that_returns() -> None:
    attempts = Attempts()
    assert not attempts.due(0.0, {NAME: False})
    assert attempts.next() == math.inf
    assert attempts.due(5.0, {NAME: True}) == {NAME}
    assert not attempts.due(5.1, {})
    # Gone again at once: not at full speed.
    assert not attempts.due(5.2, {NAME: False})
    assert not attempts.due(5.3, {NAME: True})
    assert attempts.next() == 7.0
    assert attempts.due(7.0, {NAME: True}) == {NAME}


def test_what_has_existed_for_long_starts_anew() -> None:
    attempts = Attempts()
    for _ in range(10):
        attempts.due(0.0, {NAME: False})
        attempts.due(0.0, {NAME: True})
    attempts.due(2.0, {NAME: True})
    attempts.due(2.0 + LONGEST_S, {})
    assert attempts.pause(NAME) == FIRST_S
    assert not attempts.due(100.0, {NAME: True})
    assert attempts.next() == 101.0
