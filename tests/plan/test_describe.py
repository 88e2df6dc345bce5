"""Plans in words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from epaird.config.immutable import IMMUTABLE
from epaird.config.reading import parse
from epaird.config.settings import Configuration, PairSettings
from epaird.plan.actions import Action, Detail, lines
from epaird.plan.describe import actions
from epaird.plan.diff import plan
from epaird.plan.steps import Create, Patch, Plan, Relocate, Restore
from tests.plan.configurations import configurations

ROUTED = {"addresses": ["10.3.0.1/24"], "routes": [{"to": "default", "via": "10.3.0.2"}]}


def described(now: dict[str, Any], then: dict[str, Any], **more: Any) -> list[str]:  # noqa: ANN401
    return [text for _, text in lines(actions(plan(parse(now), parse(then), **more)))]


def test_a_plan_reads_as_one_of_terraform() -> None:
    now = {
        "epair": {"epair0": {"a": {"netns": "red"}}, "epair1": {"a": ROUTED}, "epair4": {}},
        "namespaces": {"create": ["x"]},
    }
    then = {
        "daemon": {"workers": 4, "control_socket": "/run/other/control.sock"},
        "metrics": {"listen": ""},
        "epair": {
            "epair0": {"a": {"netns": "blue", "mtu": 9000}},
            "epair1": {"b": {"up": False}},
            "epair2": {"a": {"addresses": ["10.0.0.1/24"]}},
        },
    }
    restore = Restore("epair1a", ("10.3.0.1/24",), ("default via 10.3.0.2",))
    assert described(now, then, missing=[restore], adopted=["epair1"]) == [
        "    epair1  # created at runtime, belongs to the configuration from now on",
        "  - epair4",
        "  ~ epair1",
        "      a.addresses: [10.3.0.1/24] -> []",
        "      a.routes: [{to = default, via = 10.3.0.2}] -> []",
        "      b.up: true -> false",
        "-/+ epair0",
        "      a.netns: red -> blue  # cannot change in place: a device is created in its namespace",
        "      a.mtu: 1500 -> 9000",
        "  + epair2",
        "      a.addresses = [10.0.0.1/24]",
        "  - namespace x",
        "  ~ daemon",
        "      workers: auto -> 4",
        "  ! daemon",
        "      control_socket: /run/epaird/control.sock -> /run/other/control.sock"
        "  # only a restart of the daemon applies it",
        "  ~ metrics",
        '      listen: 127.0.0.1:9862 -> ""',
        "",
        "Plan: 1 to create, 3 to change, 1 to recreate, 2 to destroy, 1 to restart the daemon for.",
    ]


@pytest.mark.parametrize("key", IMMUTABLE)
def test_a_key_that_cannot_change_in_place_has_a_reason(key: str) -> None:
    other: dict[str, object] = {"netns": "red", "queues": 2}
    table = {"a": {key: other[key]}} if key == "netns" else {key: other[key]}
    (action,) = actions(plan(parse({"epair": {"epair0": {}}}), parse({"epair": {"epair0": table}})))
    assert action.verb == "recreate"
    assert action.details[0].note == f"cannot change in place: {IMMUTABLE[key].reason}"


@given(configurations())
def test_an_unchanged_configuration_needs_nothing(configuration: Configuration) -> None:
    found = plan(configuration, configuration)
    assert found.empty
    assert [text for _, text in lines(actions(found))] == [
        "Nothing to do: everything is as the configuration says."
    ]


def test_changes_at_runtime_are_reset_with_a_remark() -> None:
    file: dict[str, Any] = {"epair": {"epair0": {}, "epair1": {}, "epair2": {}}}
    now = {"epair": {"epair0": {"a": {"mtu": 9000}}, "epair1": {"a": {"peer": ""}}}}
    assert described(now, file, applied=parse(file))[:-2] == [
        "  ~ epair0",
        "      a.mtu: 9000 -> 1500  # changed at runtime, reset to the configuration",
        "  + epair2  # no longer exists",
        "  ~ epair1a",
        "      peer: (none) -> epair1b  # changed at runtime, reset to the configuration",
    ]


def test_only_a_name_that_another_interface_has_cannot_change_in_place() -> None:
    def of(first: str, second: str, mtu: int = 1500) -> dict[str, Any]:
        return {"epair": {"epair0": {"a": {"name": first, "mtu": mtu}}, "epair1": {"a": {"name": second}}}}

    assert described(of("x", "y"), of("z", "y"))[:2] == ["  ~ epair0", "      a.name: x -> z"]
    assert described(of("x", "y"), of("y", "x", 9000))[:5] == [
        "-/+ epair0",
        "      a.name: x -> y  # cannot change in place: epair1 may have it now",
        "      a.mtu: 1500 -> 9000",
        "-/+ epair1",
        "      a.name: y -> x  # cannot change in place: epair0 may have it now",
    ]


def test_addresses_and_routes_are_written_as_in_the_file() -> None:
    def half(*addresses: object, routes: list[dict[str, object]]) -> dict[str, Any]:
        return {"epair": {"epair0": {"a": {"addresses": addresses, "routes": routes}}}}

    now = half("10.0.0.1/24", routes=[{"to": "default", "via": "10.0.0.2"}])
    peer = {"address": "10.0.0.1/32", "peer": "10.9.0.2"}
    then = half("10.0.0.1/24", peer, routes=[{"to": "default", "metric": 7}])
    assert described(now, then)[1:3] == [
        "      a.addresses: [10.0.0.1/24] -> [10.0.0.1/24, {address = 10.0.0.1/32, peer = 10.9.0.2}]",
        "      a.routes: [{to = default, via = 10.0.0.2}] -> [{to = default, metric = 7}]",
    ]


def test_what_waits_for_its_namespace_says_so() -> None:
    step = Create("epair2", PairSettings(), True, "namespace red: does not exist")
    (action,) = actions(Plan(steps=(step,)))
    assert str(action) == (
        "epair2  # no longer exists; it stays missing until it can be created: namespace red: does not exist"
    )


def test_a_patch_is_a_change_of_a_half() -> None:
    (action,) = actions(Plan(patches=(Patch("epair0a", "epair0b", None),)))
    assert action == Action("change", "epair", "epair0a", (Detail("peer", "epair0b", "(none)"),))


def test_restored_addresses_and_routes_are_listed_one_by_one() -> None:
    (action,) = actions(Plan(restored=(Restore("lo1", ("10.9.9.1/24", "10.9.9.2/24")),)))
    assert (action.verb, action.kind, action.name) == ("restore", "lo", "lo1")
    assert [str(detail) for detail in action.details] == [
        "addresses: (missing) -> 10.9.9.1/24  # removed by others, put back",
        "addresses: (missing) -> 10.9.9.2/24  # removed by others, put back",
    ]


def test_a_stray_moves_to_where_the_name_leads() -> None:
    file = {"epair": {"epair0": {"a": {"netns": "/run/netns/red"}}, "epair1": {"a": {"netns": "blue"}}}}
    stray = Relocate("epair0a", "red", "net:[1]", "net:[2]")
    other = Relocate("epair1a", "green", "net:[1]", "net:[2]")
    remark = "the name leads to another namespace now; moved there, addresses and routes are set again"
    assert described(file, file, strays=[stray, other]) == [
        "  ~ epair0a",
        f"      netns: net:[1] -> red  # {remark}",
        "",
        "Plan: 0 to create, 1 to change, 0 to recreate, 0 to destroy.",
    ]
    recreated = {"epair": {**file["epair"], "epair0": {"queues": 2, "a": {"netns": "red"}}}}
    assert not any("net:[1]" in line for line in described(file, recreated, strays=[stray]))


def test_a_stray_whose_namespace_has_no_name_stays() -> None:
    file = {"epair": {"epair0": {"a": {"netns": "red"}}}}
    assert described(file, file, strays=[Relocate("epair0a", "red", "net:[1]", "")]) == [
        "    epair0a  # namespace red does not exist any more, stays in net:[1]",
        "Nothing to do: everything is as the configuration says.",
    ]
