"""The routes of interfaces, by curl, over operations without interfaces."""

from __future__ import annotations

import pytest

from tests.control.control_server import Control, create


def test_an_interface_created_by_kind_gets_the_lowest_number_and_a_location(control: Control) -> None:
    answer = control.curl("/v1/interfaces", data={"name": "epair"})
    assert (answer.status, answer.json) == (201, {"name": "epair0", "devices": ["epair0a", "epair0b"]})
    assert answer.headers["location"] == "/v1/interfaces/epair0"
    assert control.curl(answer.headers["location"]).status == 200
    assert create(control) == "epair1"


def test_settings_arrive_as_they_were_sent(control: Control) -> None:
    settings = {"a": {"mtu": 9000, "netns": "r\u00e9d", "addresses": ["10.0.0.1/24"]}, "queues": 2}
    create(control, "epair7", **settings)
    assert control.operations.requested == [("create", "epair7", settings)]


def test_list_has_every_interface_or_those_of_a_kind(control: Control) -> None:
    assert control.curl("/v1/interfaces").json == []
    create(control)
    create(control, "lo1")
    found = control.curl("/v1/interfaces").json
    assert [(each["device"], each["kind"]) for each in found] == [
        ("epair0a", "epair"), ("epair0b", "epair"), ("lo1", "lo"),
    ]  # fmt: skip
    assert [each["device"] for each in control.curl("/v1/interfaces?kind=lo").json] == ["lo1"]
    unknown = control.curl("/v1/interfaces?kind=tap")
    assert (unknown.status, unknown.problem["errno"]) == (422, "EINVAL")
    assert unknown.problem["detail"] == "kind: tap is none of epair, lo"


def test_show_has_one_interface_or_both_halves_with_counters(control: Control) -> None:
    create(control)
    assert [each["device"] for each in control.curl("/v1/interfaces/epair0").json] == ["epair0a", "epair0b"]
    (half,) = control.curl("/v1/interfaces/epair0b").json
    assert half["device"] == "epair0b"
    assert half["stats"]["opackets"] == 0
    assert half["stats"]["oerrors"]["peer_down"] == 0


def test_change_answers_with_what_it_is_now(control: Control) -> None:
    create(control)
    answer = control.curl("/v1/interfaces/epair0a", "-X", "PATCH", data={"mtu": 9000, "up": False})
    assert answer.status == 200
    assert [(each["device"], each["mtu"], each["up"]) for each in answer.json] == [("epair0a", 9000, False)]


def test_a_destroyed_interface_is_gone(control: Control) -> None:
    create(control)
    answer = control.curl("/v1/interfaces/epair0b", "-X", "DELETE")
    assert (answer.status, answer.body) == (204, "")
    assert control.curl("/v1/interfaces/epair0").status == 404


def test_patch_and_unpatch(control: Control) -> None:
    create(control)
    create(control)
    busy = control.curl("/v1/interfaces/epair0a/peer", "-X", "PUT", data={"peer": "epair1b"})
    assert (busy.status, busy.problem["errno"]) == (409, "EBUSY")
    force = {"peer": "epair1b", "force": True}
    assert control.curl("/v1/interfaces/epair0a/peer", "-X", "PUT", data=force).status == 204
    assert control.curl("/v1/interfaces/epair0a/peer", "-X", "DELETE").status == 204
    assert control.operations.requested[2:] == [("patch", "epair0a", "epair1b", True), ("unpatch", "epair0a")]


@pytest.mark.parametrize("name", ["nix", "epair0a%0aroot", "%ff", "%F0%9F%92%A9", "..%2f"])
def test_an_unknown_name_is_not_found(control: Control, name: str) -> None:
    for method in ("GET", "DELETE"):
        answer = control.curl(f"/v1/interfaces/{name}", "--path-as-is", "-X", method)
        assert answer.status == 404
        assert answer.problem["errno"] in ("ENXIO", "ENOENT")
