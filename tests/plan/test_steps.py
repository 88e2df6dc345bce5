"""The values of a plan."""

from __future__ import annotations

from dataclasses import fields

from epaird.config.immutable import IMMUTABLE
from epaird.config.settings import PairSettings
from epaird.plan.steps import Create, Destroy, Difference, Patch, Plan, Recreate, Relocate, Restore


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


def test_what_is_put_back_is_in_its_order() -> None:
    assert Restore("lo1").empty
    assert Restore("lo1").all == ()
    restore = Restore("lo1", addresses=("a",), routes=("r",), misplaced=("m",), rules=("x",))
    assert restore.all == ("a", "m", "r", "x")
    for one in ("addresses", "routes", "misplaced", "rules"):
        assert not Restore("lo1", **{one: ("it",)}).empty


def test_steps_are_those_of_the_file_unless_they_are_marked() -> None:
    settings = PairSettings()
    assert not Create("epair0", settings).lost
    assert not Recreate("epair0", settings, ()).first
    assert not Patch("epair0a", None, "epair1a").reset
    assert not Difference("a.mtu", 1500, 9000).reset


def test_what_waits_is_left_out_of_what_is_possible() -> None:
    settings = PairSettings()
    waits = Create("epair0", settings, True, "namespace red: does not exist")
    created = Create("epair1", settings)
    plan = Plan(
        steps=(waits, created),
        patches=(
            Patch("epair0a", None, "epair1a"),
            Patch("epair1a", None, "epair0a"),
            Patch("epair1b", None, None),
        ),
        namespaces_created=("blue",),
    )
    assert plan.possible == Plan(
        steps=(created,), patches=(Patch("epair1b", None, None),), namespaces_created=("blue",)
    )
    assert Plan(steps=(created,)).possible == Plan(steps=(created,))


def test_a_key_is_immutable_in_every_table() -> None:
    for key in ("netns", "a.netns"):
        assert Difference(key, None, "red").reason == IMMUTABLE["netns"].reason
    assert Difference("a.mtu", 1500, 9000).reason == ""
