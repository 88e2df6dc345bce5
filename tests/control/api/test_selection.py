"""Interfaces by namespace and by lost frames, in the order of their numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.control.api.selection import Selection
from epaird.names.cloners import order
from tests.control.control_server import Control, create
from tests.control.samples import interface

READINGS = (
    interface("lo2", kind="lo", netns="", name="lo2"),
    interface("epair10a", netns="red", oqdrops=1),
    interface("epair2b", netns="/run/netns/red"),
    interface("epair2a", netns="blue", ierrors=(0, 0, 1)),
    interface("epair1a", netns="", oerrors=(3,)),
)


def devices(selection: Selection) -> list[str]:
    return [each.device for each in selection.of(READINGS)]


@pytest.mark.parametrize(
    ("selection", "found"),
    [
        (Selection(), ["epair1a", "epair2a", "epair2b", "epair10a", "lo2"]),
        (Selection(netns="red"), ["epair2b", "epair10a"]),
        (Selection(netns="/run/netns/red"), ["epair2b", "epair10a"]),
        (Selection(netns=""), ["epair1a", "lo2"]),
        (Selection(netns="nowhere"), []),
        (Selection(drops=True), ["epair1a", "epair2a", "epair10a"]),
        (Selection(kind="lo", netns=""), ["lo2"]),
        (Selection(netns="red", drops=True), ["epair10a"]),
    ],
)
def test_selected(selection: Selection, found: list[str]) -> None:
    assert devices(selection) == found


@given(st.permutations(READINGS), st.booleans(), st.sampled_from([None, "", "red", "blue"]))
def test_the_order_is_that_of_kinds_and_numbers(
    readings: tuple[object, ...], drops: bool, netns: str | None
) -> None:
    selection = Selection(netns=netns, drops=drops)
    found = [each.device for each in selection.of(readings)]  # type: ignore[arg-type]
    assert found == devices(selection) == sorted(found, key=order)


def test_the_routes_take_the_conditions(control: Control) -> None:
    for name in ("epair10", "lo3", "epair2"):
        create(control, name)
    control.operations.interfaces["epair2"] = (
        interface("epair2a", netns="r\u00e9d & b", oqdrops=7), interface("epair2b", netns=""),
    )  # fmt: skip
    whole = ["epair2a", "epair2b", "epair10a", "epair10b", "lo3"]
    for query, found in (
        ("", whole),
        ("?netns=r%C3%A9d%20%26%20b", whole[:1]),
        ("?netns=", whole[1:]),
        ("?drops=true", whole[:1]),
        ("?drops=false&netns=nowhere", []),
    ):
        listed = control.curl(f"/v1/interfaces{query}").json
        counted = control.curl(f"/v1/stats{query}").json["interfaces"]
        assert [each["device"] for each in listed] == [each["device"] for each in counted] == found, query
    refused = control.curl("/v1/stats?drops=perhaps")
    assert (refused.status, refused.problem["errno"]) == (422, "EINVAL")
    assert "drops" in refused.problem["detail"]
