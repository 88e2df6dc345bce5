from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.client.counters import InterfaceCounters
from epaird.client.events import Event
from epaird.client.models import Interface
from epaird.client.statistics import InterfaceStatistics
from epaird.control.api import views
from epaird.ctl import show
from epaird.ctl.show import Form
from tests.control import samples


def interface(**changes: object) -> Interface:
    """An idle half as the API answers with it."""
    return views.interface(samples.interface("epair0a", **changes))


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
    assert show.state(interface(up=up, carrier=carrier)) == state


def test_lost_events_are_shown_with_their_number() -> None:
    _, words, colour = show.event_line(Event(time=0.0, what="lost", interface="", detail="42"))
    assert words == "- lost 42 events: this reader was too slow"
    assert colour


def test_every_column_is_a_counter() -> None:
    counters = vars(InterfaceCounters())
    shown = {*show.COLUMNS, *show.BRIEF_COLUMNS, *(name for name, _, _ in show.RATE_COLUMNS)}
    assert shown <= counters.keys()
    assert {*show.COLUMNS, *show.OTHERS} == counters.keys()


def statistics(*counts: InterfaceCounters) -> list[InterfaceStatistics]:
    return [InterfaceStatistics(f"epair{unit}a", "eth0", "", each) for unit, each in enumerate(counts)]


def test_a_rarer_counter_has_a_column_where_it_is_not_0() -> None:
    found = statistics(InterfaceCounters(ipackets=5), InterfaceCounters(too_big=2))
    assert show.statistics(found[:1], Form()).split("\n")[0].split() == ["NAME", *show.COLUMNS]
    heading, first, second = (line.split() for line in show.statistics(found, Form()).split("\n"))
    assert heading == ["NAME", *show.COLUMNS, "too_big"]
    assert (first[0], first[1], first[-1]) == ("epair0a", "5", "0")
    assert (second[0], second[-1]) == ("epair1a", "2")


def test_one_line_has_every_counter() -> None:
    (line,) = show.statistics(statistics(InterfaceCounters(coalesced_datagrams=7)), Form(oneline=True)).split(
        "\n"
    )
    assert [word.split("=")[0] for word in line.split()[1:]] == [*show.COLUMNS, *show.OTHERS]
    assert " coalesced_datagrams=7" in line


def test_details_have_the_rarer_counters_that_are_not_0() -> None:
    idle = views.details(samples.interface("epair0a"))
    assert "other:" not in show.details(idle, Form())
    busy = views.details(
        samples.interface("epair0a", too_big=2, coalesced_datagrams=640, coalesced_superframes=10)
    )
    (line,) = set(show.details(busy, Form()).split("\n")) - set(show.details(idle, Form()).split("\n"))
    assert line == "    other: 2 too_big, 640 coalesced_datagrams, 10 coalesced_superframes"
