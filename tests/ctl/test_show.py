from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.ctl import show


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"), (0.4, "0"), (999.4, "999"), (999.5, "1.00k"), (1234, "1.23k"), (9994, "9.99k"),
        (9996, "10.0k"), (99_960, "100k"), (999_400, "999k"), (999_600, "1.00M"), (45.6e6, "45.6M"),
        (1.2e10, "12.0G"), (1e18, "1000P"),
    ],
)  # fmt: skip
def test_a_rate_in_few_characters(number: float, text: str) -> None:
    assert show.scaled(number) == text


@given(st.floats(0, 9e17))
def test_no_rate_is_wider_than_its_column(number: float) -> None:
    assert len(show.scaled(number)) <= 5


def test_columns_are_as_wide_as_they_need() -> None:
    assert show.columns([("a", "bb"), ("ccc", "d")]) == "a    bb\nccc  d"
    assert show.columns([("a", "1"), ("b", "22")], 1) == "a   1\nb  22"
    assert show.columns([]) == ""


@pytest.mark.parametrize(
    ("up", "carrier", "state"),
    [(True, True, "up"), (True, False, "no-carrier"), (False, False, "down"), (False, True, "down")],
)
def test_state(up: bool, carrier: bool, state: str) -> None:
    assert show.state({"up": up, "carrier": carrier}) == state


def test_lost_events_are_told_with_their_number() -> None:
    _, words, colour = show.event({"time": 0.0, "what": "lost", "interface": "", "detail": "42"})
    assert words == "- lost 42 events: this reader was too slow"
    assert colour
