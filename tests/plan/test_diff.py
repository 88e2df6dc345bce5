"""Plans, carried out in a model of the daemon."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given, settings

from epaird.config import wiring
from epaird.config.reading import parse
from epaird.config.settings import Configuration, InterfaceSettings, PairSettings
from epaird.plan.actions import Action
from epaird.plan.describe import actions
from epaird.plan.diff import flattened, plan
from epaird.plan.steps import Change, Create, Destroy, Patch, Plan, Recreate, Relocate, Restore
from tests.plan.configurations import configurations


@dataclass
class Model:
    """The interfaces, patches and namespaces of a daemon."""

    interfaces: dict[str, InterfaceSettings]
    peers: dict[str, str | None]
    namespaces: set[str]
    touched: set[str] = field(default_factory=set)

    def __init__(self, configuration: Configuration) -> None:
        self.interfaces = configuration.settings_by_name()
        self.peers = wiring.peers(configuration)
        self.namespaces = set(configuration.namespaces.create)
        self.touched = set()

    def apply(self, plan: Plan) -> None:
        """Carry out a plan as the daemon does, which refuses impossible steps."""
        assert not self.namespaces & set(plan.namespaces_created)
        self.namespaces |= set(plan.namespaces_created)
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
                self.peers |= wiring.initial_peers(made.name, made.settings)
        for patch in plan.patches:
            self._patch(patch)
        for last in plan.destroyed_last:
            self._destroy(last.name)
        self.namespaces -= set(plan.namespaces_removed)

    def _take(self, name: str, settings: InterfaceSettings) -> None:
        """Give an interface its settings; no two devices have a name or a hardware address at a time."""
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
def test_a_plan_leads_from_one_configuration_to_the_other(now: Configuration, then: Configuration) -> None:
    model = Model(now)
    found = plan(now, then)
    model.apply(found)
    wanted = Model(then)
    assert plan_between(model.interfaces, wanted.interfaces) == ()
    assert model.peers == wanted.peers
    assert model.namespaces == wanted.namespaces
    same = {
        name for name, each in now.settings_by_name().items() if then.settings_by_name().get(name) == each
    }
    assert not model.touched & same
    assert plan(then, then).empty
    assert found.empty == (not actions(found))


def plan_between(now: dict[str, InterfaceSettings], then: dict[str, InterfaceSettings]) -> tuple[object, ...]:
    assert now.keys() == then.keys()
    pairs: list[Any] = [
        {name: each for name, each in tables.items() if name.startswith("epair")} for tables in (now, then)
    ]
    found = [Configuration.model_construct(epair=tables, lo=None) for tables in pairs]
    return plan(*found, peers={}).steps


def test_what_another_step_changes_is_not_put_back() -> None:
    def of(*, routing: bool = True, **a: object) -> Configuration:
        half = {"addresses": ["10.0.0.1/24"], "routes": [{"to": "default", "via": "10.0.0.2"}], **a}
        lo1 = {"mode": "verbatim", "policy_routing": routing}
        return parse({"epair": {"epair0": {"a": half}}, "lo": {"lo1": lo1}})

    half = Restore("epair0a", ("10.0.0.1/24",), ("default via 10.0.0.2",), ("10.0.0.3/24",))
    loopback = Restore("lo1", rules=("10: from all iif lo1 lookup local",))
    missing = [half, loopback, Restore("epair7a", ("10.2.0.1/24",))]

    def restored(**a: Any) -> tuple[Restore, ...]:  # noqa: ANN401
        return plan(of(), of(**a), missing=missing).restored

    assert restored() == restored(mtu=1400) == (half, loopback)
    assert restored(addresses=["10.0.0.7/24"]) == (Restore("epair0a", (), half.routes), loopback)
    assert restored(routes=[]) == restored(up=False) == (replace(half, routes=()), loopback)
    assert restored(routing=False) == (half,)


def test_nothing_is_put_back_on_an_interface_that_is_not_in_both_configurations() -> None:
    now, then = parse({"epair": {"epair0": {}, "epair1": {}}}), parse({"epair": {"epair1": {}, "epair2": {}}})
    missing = [Restore(f"epair{number}a", ("10.0.0.1/24",)) for number in (0, 2, 1)]
    assert plan(now, then, missing=missing).restored == (missing[2],)


def test_strays_return_to_the_namespace_that_they_are_still_to_be_in() -> None:
    def of(netns: str, **of_pair: object) -> Configuration:
        return parse({"epair": {"epair0": {"a": {"netns": netns}, **of_pair}}})

    stray = Relocate("epair0a", "red", "net:[1]", "net:[2]")

    def relocated(now: Configuration, then: Configuration) -> tuple[Relocate, ...]:
        return plan(now, then, strays=[stray]).relocated

    assert relocated(of("red"), of("red")) == (stray,)
    assert relocated(of("red"), of("/run/netns/red")) == (stray,)
    assert relocated(of("red"), of("blue")) == ()
    assert relocated(of("red"), of("red", queues=2)) == (), "it is created again"
    assert relocated(of("red"), parse({})) == ()


def test_what_was_changed_at_runtime_is_told_from_what_the_file_changes() -> None:
    applied = parse({"epair": {"epair0": {"a": {"mtu": 1500}}, "epair1": {}}})
    now = parse({"epair": {"epair0": {"a": {"mtu": 9000, "txqueuelen": 50}}}})
    then = parse({"epair": {"epair0": {"a": {"mtu": 1500, "txqueuelen": 60}}, "epair1": {}, "epair2": {}}})
    change, *created = plan(now, then, applied=applied).steps
    assert isinstance(change, Change)
    assert {each.key: each.reset for each in change.differences} == {"a.mtu": True, "a.txqueuelen": False}
    assert [(step.name, step.lost) for step in created if isinstance(step, Create)] == [
        ("epair1", True),
        ("epair2", False),
    ]
    change, *created = plan(now, then).steps
    assert isinstance(change, Change)
    assert not any(each.reset for each in change.differences)
    assert not any(step.lost for step in created if isinstance(step, Create))


def test_two_spellings_of_a_namespace_are_no_difference() -> None:
    names = ("red", "/run/netns/red", "/var/run/netns/red")
    spelled = [parse({"epair": {"epair0": {"a": {"netns": netns}}}}) for netns in names]
    assert all(plan(spelled[0], each).empty for each in spelled)
    half = spelled[1].epair["epair0"].a
    assert flattened(half)["netns"] == "red"
    assert flattened(parse({"epair": {"epair0": {}}}).epair["epair0"].a)["netns"] is None
    assert "peer" not in flattened(half)


def test_an_interface_with_a_route_that_another_needs_is_destroyed_first() -> None:
    def of(routed: str, **of_second: object) -> Configuration:
        tables: dict[str, Any] = {}
        for number, name in enumerate(("epair0", "epair1")):
            route = {"to": "default", "via": f"10.0.{number}.2"}
            tables[name] = {"a": {"netns": "red", "addresses": [f"10.0.{number}.1/24"]}}
            tables[name]["a"]["routes"] = [route] if name == routed else []
        tables["epair1"] |= of_second
        return parse({"epair": tables})

    change, recreate = plan(of("epair1"), of("epair0", queues=2)).steps
    assert isinstance(change, Change)
    assert isinstance(recreate, Recreate)
    assert recreate.first
    (recreate,) = plan(of("epair1"), of("epair1", queues=2)).steps
    assert isinstance(recreate, Recreate)
    assert not recreate.first
    without = parse({"epair": {"epair0": of("epair0").epair["epair0"].model_dump()}})
    assert [type(step) for step in plan(of("epair1"), without).steps] == [Destroy, Change]


def test_interfaces_are_destroyed_last_unless_a_name_is_needed_again() -> None:
    now = parse({"epair": {"epair0": {"a": {"name": "eth0"}}, "epair1": {}}})
    then = parse({"epair": {"epair2": {"a": {"name": "eth0"}}}})
    found = plan(now, then)
    assert [type(step) for step in found.steps] == [Destroy, Create]
    assert found.destroyed_last == (Destroy("epair1"),)


def test_interfaces_that_swap_their_names_are_recreated() -> None:
    now = parse({"epair": {"epair0": {"a": {"name": "x"}}, "epair1": {"a": {"name": "y"}}}})
    then = parse({"epair": {"epair0": {"a": {"name": "y"}}, "epair1": {"a": {"name": "x"}}}})
    found = plan(now, then)
    assert [type(step) for step in found.steps] == [Recreate, Recreate]
    assert actions(found)[0].details[0].note == "cannot change in place: epair1 may have it now"


def test_halves_are_plugged_after_every_interface_is_created() -> None:
    now = parse({"epair": {"epair0": {}}})
    then = parse({"epair": {"epair0": {"a": {"peer": "epair1b"}}, "epair1": {}}})
    assert plan(now, then).patches == (Patch("epair0a", "epair0b", "epair1b"),)
    assert plan(then, now).patches == (Patch("epair0a", "epair1b", "epair0b"),)
    unplugged = parse({"epair": {"epair0": {"a": {"peer": ""}}}})
    assert plan(now, unplugged).patches == (Patch("epair0a", "epair0b", None),)
    assert isinstance(actions(plan(now, unplugged))[0], Action)


def impaired(impair: dict[str, Any], **sets: dict[str, Any]) -> Configuration:
    return parse({"epair": {"epair0": {"a": {"impair": impair}}, "epair1": {}}, "impairment": sets})


def details(now: Configuration, then: Configuration) -> list[str]:
    """Return the details of a plan that changes one pair in place, in the words of its description."""
    (action,) = actions(plan(now, then))
    assert (action.verb, action.name) == ("change", "epair0")
    return [f"{detail.key}: {detail.old} -> {detail.new}" for detail in action.details]


def test_an_impairment_changes_in_place_key_by_key() -> None:
    now, then = impaired({"delay": "1ms", "loss": {"p": "1%"}}), impaired({"delay": "2ms"})
    assert details(now, then) == [
        "a.impair.delay: 1ms -> 2ms",
        "a.impair.loss: {p = 1%} -> (none)",
    ]
    assert details(impaired({"loss": "1%"}), impaired({"loss": {"p": "1%"}})) == [
        "a.impair.loss: 1% -> {p = 1%}"
    ]
    assert plan(impaired({"delay": "0.1s"}), impaired({"delay": "100ms"})).empty


def test_a_named_set_that_changes_changes_the_pairs_that_use_it() -> None:
    preset = {"preset": "x"}
    now, then = impaired(preset, x={"rate": "1mbit"}), impaired(preset, x={"delay": "1ms"})
    assert details(now, then) == ["impairment.x.delay: (none) -> 1ms", "impairment.x.rate: 1mbit -> (none)"]
    assert plan(impaired({}, x={"rate": "1mbit"}), impaired({}, x={})).empty
