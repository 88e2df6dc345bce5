"""Plans, and what carrying them out in a model of the daemon leads to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epaird.config import wiring as patches
from epaird.config.reading import InvalidConfiguration, parse
from epaird.config.settings import Configuration, PairSettings
from epaird.plan.actions import Action, lines
from epaird.plan.diff import (
    NEVER_IN_PLACE,
    Change,
    Create,
    Destroy,
    InterfaceSettings,
    Patch,
    Plan,
    Recreate,
    Restore,
    actions,
    interfaces,
    plan,
)


def half(draw: st.DrawFn, others: list[str], number: int) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, values in {
        "netns": st.sampled_from(["red", "/run/netns/red", "blue"]),
        "name": st.sampled_from(["eth0", "eth1"]),
        "mac": st.sampled_from(["stable", "02:00:00:00:00:01", "02:00:00:00:00:02"]),
        "mtu": st.integers(1280, 9000),
        "up": st.booleans(),
        "addresses": st.sampled_from([[], [f"10.0.{number}.1/24"], ["10.9.0.1/24"]]),
        "peer": st.sampled_from([*others, ""]),
    }.items():
        if draw(st.integers(0, 3)) == 0:
            table[key] = draw(values)
    return table


@st.composite
def configurations(draw: st.DrawFn) -> Configuration:
    """Of a handful of pairs and loopbacks; those that contradict themselves are left out."""
    numbers = draw(st.sets(st.integers(0, 3)))
    others = [f"epair{number}{side}" for number in numbers for side in "ab"]
    document: dict[str, Any] = {
        "epair": {},
        "namespaces": {"create": sorted(draw(st.sets(st.sampled_from("rg"))))},
    }
    for number in sorted(numbers):
        table: dict[str, Any] = {"a": half(draw, others, number), "b": half(draw, others, number + 4)}
        if draw(st.integers(0, 3)) == 0:
            table |= {"queues": 2, "carrier": "off"}
        document["epair"][f"epair{number}"] = table
        try:
            parse(document)
        except InvalidConfiguration:
            document["epair"][f"epair{number}"] = {}
            try:
                parse(document)
            except InvalidConfiguration:
                del document["epair"][f"epair{number}"]
    if draw(st.booleans()):
        document["lo"] = draw(
            st.sampled_from([{}, {"lo1": {}}, {"lo1": {"mode": "verbatim"}, "lo0": {"mtu": 99}}])
        )
    document["daemon"] = draw(st.sampled_from([{}, {"workers": 3}, {"log_level": "debug", "watch": True}]))
    try:
        return parse(document)
    except InvalidConfiguration:  # a pair that another is plugged into was left out
        for table in document["epair"].values():
            for side in table.values():
                if isinstance(side, dict):
                    side.pop("peer", None)
        return parse(document)


@dataclass
class Model:
    """What a daemon would have."""

    interfaces: dict[str, InterfaceSettings]
    peers: dict[str, str | None]
    namespaces: set[str]
    touched: set[str] = field(default_factory=set)

    def __init__(self, configuration: Configuration) -> None:
        self.interfaces = interfaces(configuration)
        self.peers = patches.peers(configuration)
        self.namespaces = set(configuration.namespaces.create)
        self.touched = set()

    def apply(self, plan: Plan) -> None:
        """As the real one does, which refuses what cannot be."""
        assert not self.namespaces & set(plan.namespaces_made)
        self.namespaces |= set(plan.namespaces_made)
        for gone in [step for step in plan.steps if isinstance(step, Destroy)]:
            self._destroy(gone.name)
        for changed in [step for step in plan.steps if isinstance(step, Change)]:
            self._take(changed.name, changed.settings)
        for recreated in [step for step in plan.steps if isinstance(step, Recreate)]:
            self._destroy(recreated.name)
        for made in [step for step in plan.steps if isinstance(step, Create | Recreate)]:
            assert made.name not in self.interfaces
            self._take(made.name, made.settings)
            if isinstance(made.settings, PairSettings):
                self.peers |= patches.at_first(made.name, made.settings)
        for patch in plan.patches:
            self._patch(patch)
        for last in plan.destroyed_last:
            self._destroy(last.name)
        self.namespaces -= set(plan.namespaces_removed)

    def _take(self, name: str, settings: InterfaceSettings) -> None:
        """No two devices have a name or an address at a time."""
        self.interfaces[name] = settings
        self.touched.add(name)
        devices: list[tuple[object, ...]] = []
        for its, each in self.interfaces.items():
            configuration = parse_one(its, each)
            for device in configuration.halves or configuration.loopbacks[-1:]:
                devices.append((device.namespace, device.name))
                if getattr(device.settings, "mac", None) not in (None, "stable"):
                    devices.append(("mac", device.settings.mac))  # type: ignore[union-attr]
        assert len(devices) == len(set(devices)), devices

    def _patch(self, patch: Patch) -> None:
        assert self.peers[patch.half] == patch.old
        self._leave(patch.half)
        if patch.new is not None:
            self._leave(patch.new)
            self.peers[patch.new] = patch.half
        self.peers[patch.half] = patch.new

    def _destroy(self, name: str) -> None:
        del self.interfaces[name]
        self.touched.add(name)
        for each in [each for each in self.peers if each[:-1] == name]:
            self._leave(each)
            del self.peers[each]

    def _leave(self, half: str) -> None:
        peer = self.peers.get(half)
        if peer is not None:
            self.peers[half] = self.peers[peer] = None


def parse_one(name: str, each: InterfaceSettings) -> Configuration:
    if isinstance(each, PairSettings):
        return Configuration.model_construct(epair={name: each}, lo=None)
    return Configuration.model_construct(epair={}, lo={name: each})


@settings(max_examples=200, deadline=None)
@given(configurations(), configurations())
def test_applied_to_one_configuration_it_gives_the_other(now: Configuration, then: Configuration) -> None:
    model = Model(now)
    found = plan(now, then)
    model.apply(found)
    wanted = Model(then)
    assert plan_between(model.interfaces, wanted.interfaces) == ()
    assert model.peers == wanted.peers
    assert model.namespaces == wanted.namespaces
    same = {name for name, each in interfaces(now).items() if interfaces(then).get(name) == each}
    assert not model.touched & same
    assert plan(then, then).empty
    assert found.empty == (not actions(found))


def plan_between(now: dict[str, InterfaceSettings], then: dict[str, InterfaceSettings]) -> tuple[object, ...]:
    assert now.keys() == then.keys()
    pairs: list[Any] = [
        {name: each for name, each in those.items() if name.startswith("epair")} for those in (now, then)
    ]
    found = [Configuration.model_construct(epair=those, lo=None) for those in pairs]
    return plan(*found, peers={}).steps


@given(configurations())
def test_to_where_one_is_there_is_nothing_to_do(configuration: Configuration) -> None:
    found = plan(configuration, configuration)
    assert found.empty
    assert [text for _, text in lines(actions(found))] == [
        "Nothing to do: everything is as the configuration says."
    ]


def told(now: dict[str, Any], then: dict[str, Any], **more: Any) -> list[str]:  # noqa: ANN401
    return [text for _, text in lines(actions(plan(parse(now), parse(then), **more)))]


def test_it_reads_as_terraforms() -> None:
    now = {
        "epair": {"epair0": {"a": {"netns": "red"}}, "epair1": {}, "epair4": {}},
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
    restore = Restore("epair1a", ("10.3.0.1/24",), (("default", "10.3.0.2"),))
    assert told(now, then, missing=[restore], adopted=["epair1"]) == [
        "    epair1  # was made at runtime, and is the configuration's from now on",
        "  - epair4",
        "  ~ epair1",
        "      b.up: true -> false",
        "-/+ epair0",
        "      a.netns: red -> blue  # cannot change in place: a device is made where it lives",
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


@pytest.mark.parametrize("key", NEVER_IN_PLACE)
def test_what_cannot_change_in_place_says_why(key: str) -> None:
    other: dict[str, object] = {"netns": "red", "queues": 2, "offload": False}
    table = {"a": {key: other[key]}} if key == "netns" else {key: other[key]}
    (action,) = actions(plan(parse({"epair": {"epair0": {}}}), parse({"epair": {"epair0": table}})))
    assert action.verb == "recreate"
    assert action.details[0].note == f"cannot change in place: {NEVER_IN_PLACE[key]}"


def test_what_is_put_back_is_only_what_shall_stay() -> None:
    now = parse({"epair": {"epair0": {"a": {"addresses": ["10.0.0.1/24", "10.1.0.1/24"]}}, "epair1": {}}})
    then = parse({"epair": {"epair0": {"a": {"addresses": ["10.0.0.1/24"]}}}})
    missing = [Restore("epair0a", ("10.0.0.1/24", "10.1.0.1/24")), Restore("epair1a", ("10.2.0.1/24",))]
    assert plan(now, then, missing=missing).restored == (Restore("epair0a", ("10.0.0.1/24",)),)


def test_what_goes_does_so_last_unless_something_of_it_is_needed() -> None:
    now = parse({"epair": {"epair0": {"a": {"name": "eth0"}}, "epair1": {}}})
    then = parse({"epair": {"epair2": {"a": {"name": "eth0"}}}})
    found = plan(now, then)
    assert [type(step) for step in found.steps] == [Destroy, Create]
    assert found.destroyed_last == (Destroy("epair1"),)


def test_what_was_done_at_runtime_is_undone_and_said() -> None:
    file: dict[str, Any] = {"epair": {"epair0": {}, "epair1": {}, "epair2": {}}}
    now = {"epair": {"epair0": {"a": {"mtu": 9000}}, "epair1": {"a": {"peer": ""}}}}
    assert told(now, file, said=parse(file))[:-2] == [
        "  ~ epair0",
        "      a.mtu: 9000 -> 1500  # was changed at runtime, and is as the configuration says again",
        "  + epair2  # is not there any more",
        "  ~ epair1a",
        "      peer: (none) -> epair1b  # was changed at runtime, and is as the configuration says again",
    ]


def test_two_that_swap_their_names_are_recreated() -> None:
    now = parse({"epair": {"epair0": {"a": {"name": "x"}}, "epair1": {"a": {"name": "y"}}}})
    then = parse({"epair": {"epair0": {"a": {"name": "y"}}, "epair1": {"a": {"name": "x"}}}})
    found = plan(now, then)
    assert [type(step) for step in found.steps] == [Recreate, Recreate]
    assert actions(found)[0].details[0].note == "cannot change in place: it may be that of epair1 now"


def test_halves_are_plugged_once_all_are_there() -> None:
    now = parse({"epair": {"epair0": {}}})
    then = parse({"epair": {"epair0": {"a": {"peer": "epair1b"}}, "epair1": {}}})
    assert plan(now, then).patches == (Patch("epair0a", "epair0b", "epair1b"),)
    assert plan(then, now).patches == (Patch("epair0a", "epair1b", "epair0b"),)
    unplugged = parse({"epair": {"epair0": {"a": {"peer": ""}}}})
    assert plan(now, unplugged).patches == (Patch("epair0a", "epair0b", None),)
    assert isinstance(actions(plan(now, unplugged))[0], Action)
