"""The routes of the configuration as a whole, by curl."""

from __future__ import annotations

from epaird.plan.actions import Action, Detail
from tests.control.control_server import Control

ACTIONS = (
    Action("create", "epair", "epair1", (Detail("a.mtu", "", "9000"),)),
    Action("adopt", "lo", "lo1"),
)


def test_a_reload_answers_with_what_it_did_and_a_dry_run_with_what_it_would(control: Control) -> None:
    control.reloads.actions = ACTIONS
    answer = control.curl("/v1/reload", data={})
    assert answer.status == 200
    assert answer.json["changes"] is True
    assert answer.json["actions"][0] == {
        "verb": "create", "kind": "epair", "name": "epair1", "note": "",
        "details": [{"key": "a.mtu", "old": "", "new": "9000", "note": ""}],
    }  # fmt: skip
    control.reloads.actions = ACTIONS[1:]
    assert control.curl("/v1/reload", data={"dry_run": True}).json["changes"] is False
    assert control.reloads.requested == [("reload", False), ("reload", True)]


def test_every_error_of_a_file_has_its_key(control: Control) -> None:
    control.reloads.problems = ("epair.epair0.a.mtu: 1 is less", "daemon.workers: 0 is less")
    for path, data in (("/v1/reload", {}), ("/v1/plan", {"text": "x"})):
        answer = control.curl(path, data=data)
        assert (answer.status, answer.problem["errno"]) == (422, "EINVAL")
        assert [each["key"] for each in answer.problem["errors"]] == ["epair.epair0.a.mtu", "daemon.workers"]


def test_a_plan_is_of_the_text_that_was_sent(control: Control) -> None:
    assert control.curl("/v1/plan", data={"text": "[lo]\n", "name": "x.toml"}).json == {
        "changes": False, "actions": [],
    }  # fmt: skip
    assert control.reloads.requested == [("plan", "[lo]\n", "x.toml")]


def test_the_configuration_is_toml(control: Control) -> None:
    answer = control.curl("/v1/configuration")
    assert answer.headers["content-type"] == "application/toml"
    assert answer.body == "# r\u00e9d\n[epair.epair0]\n"
