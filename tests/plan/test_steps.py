"""The values of a plan."""

from __future__ import annotations

from dataclasses import fields

from epaird.config.immutable import IMMUTABLE
from epaird.plan.steps import Destroy, Difference, Patch, Plan, Relocate, Restore


def test_a_plan_is_empty_unless_something_is_done() -> None:
    assert Plan().empty
    assert Plan(adopted=("epair0",)).empty
    assert Plan(relocated=(Relocate("epair0a", "red", "net:[1]", ""),)).empty
    examples: dict[str, object] = {
        "namespaces_created": "red",
        "steps": Destroy("epair0"),
        "patches": Patch("epair0a", None, "epair1a"),
        "restored": Restore("epair0a"),
        "destroyed_last": Destroy("epair0"),
        "namespaces_removed": "red",
        "relocated": Relocate("epair0a", "red", "net:[1]", "net:[2]"),
        "daemon": Difference("daemon.workers", 1, 2),
    }
    assert examples.keys() | {"adopted", "missing"} == {field.name for field in fields(Plan)}
    for name, example in examples.items():
        assert not Plan(**{name: (example,)}).empty  # type: ignore[arg-type]


def test_a_key_is_immutable_in_every_table() -> None:
    for key in ("netns", "a.netns"):
        assert Difference(key, None, "red").reason == IMMUTABLE["netns"].reason
    assert Difference("a.mtu", 1500, 9000).reason == ""
