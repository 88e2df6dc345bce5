"""Content negotiation: weights, specificity, exclusions and malformed headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.control.http.negotiation import codings, media_types

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
OM, P = "application/openmetrics-text", "text/plain"
PROMETHEUS_2 = f"{OM};version=1.0.0;q=0.5,{OM};version=0.0.1;q=0.4,{P};version=0.0.4;q=0.3,*/*;q=0.2"
PROMETHEUS_3 = (
    f"{OM};version=1.0.0;escaping=allow-utf-8;q=0.6,{OM};version=0.0.1;q=0.5,"
    f"{P};version=1.0.0;escaping=allow-utf-8;q=0.4,{P};version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "accepted"),
    [
        ("", [TEXT, OPEN]),
        ("*/*", [TEXT, OPEN]),
        ("*", [TEXT, OPEN]),
        (PROMETHEUS_2, [OPEN, TEXT]),
        (PROMETHEUS_3, [OPEN, TEXT]),
        (f"{P};version=0.0.4;q=0.6,{OM};version=1.0.0;q=0.5,*/*;q=0.2", [TEXT, OPEN]),
        (P, [TEXT]),
        (OM, [OPEN]),
        (f"{OM}, */*", [OPEN, TEXT]),
        (f"*/*, {OM}", [OPEN, TEXT]),
        (f"{OM}, {P}", [OPEN, TEXT]),
        (f"{P}, {OM}", [TEXT, OPEN]),
        (f"TEXT/Plain ; Version=0.0.4 ; Q=0.1 , {OM.upper()};q=0.2", [OPEN, TEXT]),
        # Another version than the one that is offered.
        (f"{OM};version=0.0.1, {P};q=0.1", [TEXT]),
        (f"{OM};version=x", [TEXT, OPEN]),
        # Exclusions, by the most specific range.
        (f"{OM};q=0,{P}", [TEXT]),
        (f"{OM};q=0.000", [TEXT]),
        (f"{P};q=0", [OPEN]),
        (f"{OM};q=0, */*;q=0.5", [TEXT]),
        (f"text/*;q=0, {P};version=0.0.4;q=0.1", [TEXT]),
        (f"{P};q=0, text/*", [OPEN]),
        ("text/*;q=0.1, */*;q=0.2", [OPEN, TEXT]),
        ("*/*;q=0", []),
        (f"{OM};q=0,{P};q=0", []),
        # What is not offered makes no difference.
        ("application/json", [TEXT, OPEN]),
        ("text/html, application/json;q=0", [TEXT, OPEN]),
        # A malformed weight says nothing.
        (f"{OM};q=high", [TEXT, OPEN]),
        (f"{OM};q=2, {P};q=0.1", [TEXT]),
        (f"{OM};q=-1", [TEXT, OPEN]),
        (f"{OM};q=", [TEXT, OPEN]),
        (f"{OM};q=nan", [TEXT, OPEN]),
        (", ;;=, ;q=1", [TEXT, OPEN]),
        # A comma and a semicolon in quotes.
        (f'{OM};note="a,{P};q=0";q=0.5', [OPEN]),
        (f'{P};charset="utf-8", {OM};q=0.9', [TEXT, OPEN]),
        (f'{P};charset="latin-1", {OM};q=0.1', [OPEN]),
    ],
)
def test_media_types(accept: str, accepted: list[str]) -> None:
    assert list(media_types(accept, (TEXT, OPEN))) == accepted


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        (None, ["identity"]),
        ("", ["identity"]),
        ("gzip", ["gzip", "identity"]),
        ("x-gzip", ["gzip", "identity"]),
        ("GZIP;Q=1.0", ["gzip", "identity"]),
        ("gzip, deflate, br", ["gzip", "identity"]),
        ("deflate, br", ["identity"]),
        ("gzip;q=0, identity", ["identity"]),
        ("gzip;q=0", ["identity"]),
        ("gzip;q=0.5, identity", ["identity", "gzip"]),
        ("identity;q=0.5, gzip;q=0.001", ["identity", "gzip"]),
        ("identity;q=0.5, gzip", ["gzip", "identity"]),
        ("identity, gzip", ["identity", "gzip"]),
        ("gzip, identity", ["gzip", "identity"]),
        ("gzip;q=0.001", ["gzip", "identity"]),
        ("*", ["identity", "gzip"]),
        ("*;q=0.1, gzip;q=0.2", ["gzip", "identity"]),
        ("gzip;q=0, *", ["identity"]),
        ("identity;q=0, gzip", ["gzip"]),
        ("identity;q=0, *", ["gzip"]),
        ("*;q=0, gzip", ["gzip"]),
        ("*;q=0, identity;q=0.1", ["identity"]),
        ("identity;q=0", []),
        ("identity;q=0, br", []),
        ("*;q=0", []),
        ("gzip;q=0, *;q=0", []),
        ("gzip;q=much", ["identity"]),
        ("gzip;q=1.1", ["identity"]),
    ],
)
def test_codings(header: str | None, accepted: list[str]) -> None:
    assert list(codings(header)) == accepted


WEIGHTS = st.integers(0, 1000).map(lambda thousandths: thousandths / 1000)


@given(WEIGHTS, WEIGHTS, st.booleans())
def test_the_greater_weight_wins_whatever_the_order(text: float, openmetrics: float, turned: bool) -> None:
    ranges = [f"{P};q={text:.3f}", f"{OM};q={openmetrics:.3f}"]
    found = media_types(", ".join(reversed(ranges) if turned else ranges), (TEXT, OPEN))
    assert set(found) == {kind for kind, weight in ((TEXT, text), (OPEN, openmetrics)) if weight}
    if text != openmetrics and found:
        assert found[0] == (TEXT if text > openmetrics else OPEN)


@given(WEIGHTS, WEIGHTS, WEIGHTS)
def test_the_most_specific_range_decides(exact: float, group: float, rest: float) -> None:
    header = f"*/*;q={rest:.3f}, text/*;q={group:.3f}, {P};q={exact:.3f}"
    found = media_types(header, (TEXT, "text/html", OPEN))
    weights = {TEXT: exact, "text/html": group, OPEN: rest}
    assert set(found) == {kind for kind, weight in weights.items() if weight}
    assert [weights[kind] for kind in found] == sorted((weights[kind] for kind in found), reverse=True)


@given(st.text(alphabet='*/abtextplin;,=q01.9" \\\t\0é', max_size=60))
def test_any_header_has_an_answer(header: str) -> None:
    assert set(media_types(header, (TEXT, OPEN))) <= {TEXT, OPEN}
    assert set(codings(header)) <= {"identity", "gzip"}


def test_a_long_header_takes_no_long_time() -> None:
    for filling in (",", ";", '"', "a;q=0,", '"\\', "*/*;"):
        media_types(filling * 20_000, (TEXT, OPEN))
        codings(filling * 20_000)
