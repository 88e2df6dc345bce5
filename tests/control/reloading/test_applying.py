"""Plans that are applied, and undone when a step fails."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from epaird.config.reading import parse
from epaird.config.settings import Configuration, LoopbackSettings, PairSettings
from epaird.control.machine.namespaces import Namespaces
from epaird.control.reloading.applying import Applying
from epaird.kernel.errors import KernelError
from epaird.plan.steps import Change, Create, Destroy, Patch, Plan, Recreate, Restore
from tests.control.interfaces.scene import Scene, make_scene
from tests.loop import on_loop


class Steps:
    """Applies plans to a scene, and records when the daemon itself is changed."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.before = parse({"lo": {}})
        self.after = parse({"lo": {}, "epair": {"epair0": {}, "epair1": {}}})
        self.calls: list[str] = []
        self.left: list[str] = []

    async def apply(self, plan: Plan) -> None:
        """Apply a plan that leads from ``before`` to ``after``."""
        applying = Applying(
            plan,
            self.after,
            registry=self.scene.registry,
            namespaces=Namespaces(self.scene.host, Path("/nonexistent")),
            reconfigure=lambda wanted: self._called("reconfigure", wanted),
            shrink=lambda wanted: self._called("shrink", wanted),
            current=self.before,
        )
        try:
            await applying.apply()
        finally:
            self.left = applying.left

    async def _called(self, what: str, wanted: Configuration) -> None:
        self.calls.append(f"{what} {'after' if wanted is self.after else 'before'}")


@on_loop
async def test_interfaces_of_a_plan_belong_to_the_configuration_afterwards() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair1", {})
        steps = Steps(scene)
        await steps.apply(Plan(steps=(Create("epair0", PairSettings()),), adopted=("epair1",)))
        assert {clone.name: clone.origin for clone in scene.registry} == dict.fromkeys(
            ("epair0", "epair1", "lo0"), "configuration"
        )
        assert steps.calls == ["reconfigure after", "shrink after"]


@on_loop
async def test_a_step_that_fails_undoes_the_others_in_reverse() -> None:
    async with make_scene() as scene:
        for name in ("epair0", "epair1"):
            await scene.interfaces.create(name, {})
        await scene.interfaces.create("lo1", {"mtu": 1400})
        macs = {half.device: half.mac for half in scene.registry.pairs.ifnets}
        steps = Steps(scene)
        plan = Plan(
            steps=(
                Destroy("lo1"),
                Recreate("epair1", PairSettings(queues=1, coalesce=False), ()),
                Create("lo2", LoopbackSettings()),
            ),
            patches=(Patch("epair0a", "epair0b", "epair1b"),),
            restored=(Restore("lo0", ("10.0.0.1/24",)),),
        )
        scene.host.fail("converge", errno.EPERM)
        with pytest.raises(KernelError):
            await steps.apply(plan)
        assert {half.device: half.mac for half in scene.registry.pairs.ifnets} == macs
        assert sorted(clone.name for clone in scene.registry) == ["epair0", "epair1", "lo0", "lo1"]
        lo1 = scene.registry.get("lo1")
        assert lo1 is not None
        assert (lo1.settings.model_dump()["mtu"], lo1.origin) == (1400, "runtime")
        assert [half.peer and half.peer.device for half in scene.registry.pairs.ifnets] == [
            "epair0b", "epair0a", "epair1b", "epair1a",
        ]  # fmt: skip
        assert steps.calls == ["reconfigure after", "reconfigure before", "shrink before"]


@on_loop
async def test_a_change_is_undone_with_the_hardware_addresses_of_before() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {})
        settings = scene.registry.pairs.ifnets[0].pair.settings
        macs = {half.device: half.mac for half in scene.registry.pairs.ifnets}
        wanted = PairSettings.model_validate({"a": {"mac": "02:00:00:00:00:07", "mtu": 1400}})
        plan = Plan(steps=(Change("epair0", wanted, ()), Create("epair1", PairSettings())))
        scene.host.fail("open_tap", errno.EMFILE)
        with pytest.raises(KernelError):
            await Steps(scene).apply(plan)
        assert {half.device: half.mac for half in scene.registry.pairs.ifnets} == macs
        assert scene.registry.pairs.ifnets[0].pair.settings == settings
        link = scene.host.links["epair0a"].settings
        assert link is not None
        assert (link.mac, link.mtu) == (macs["epair0a"], 1500)


@on_loop
async def test_what_a_request_destroyed_is_not_created_again_after_a_reload_that_fails() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("lo1", {})
        await scene.interfaces.destroy("lo1")
        plan = Plan(steps=(Create("lo1", LoopbackSettings()),), restored=(Restore("lo0", ("10.0.0.1/24",)),))
        scene.host.fail("converge", errno.EPERM)
        with pytest.raises(KernelError):
            await Steps(scene).apply(plan)
        assert scene.registry.get("lo1") is None
        assert scene.registry.withdrawn == {"lo1"}


@on_loop
async def test_what_cannot_be_undone_is_known() -> None:
    async with make_scene() as scene:
        b = {"addresses": ["10.0.0.2/24"], "routes": [{"to": "default", "via": "10.0.0.1"}]}
        await scene.interfaces.create("epair0", {"b": b})
        await scene.interfaces.create("epair1", {"b": {"addresses": ["10.1.0.2/24"]}})
        for name in ("epair0b", "epair1b"):
            link = scene.host.links[name]
            assert link.settings is not None
            link.settings = replace(link.settings, addresses=(), routes=())
        before = await scene.registry.lacks()
        steps = Steps(scene)
        scene.host.fail("open_tap", errno.EMFILE)
        plan = Plan(steps=(Create("epair2", PairSettings()),), missing=before[1:])
        with pytest.raises(KernelError):
            await steps.apply(plan)
        assert steps.left == ["epair0b lacks 10.0.0.2/24, default via 10.0.0.1"]


@on_loop
async def test_an_address_moves_to_an_interface_from_one_that_is_recreated() -> None:
    async with make_scene() as scene:
        b = {"addresses": ["10.0.0.2/24"], "routes": [{"to": "default", "via": "10.0.0.1"}]}
        await scene.interfaces.create("epair0", {"b": b})
        await scene.interfaces.create("epair1", {})
        wanted = PairSettings.model_validate({"b": b})
        scene.host.steps.clear()
        for first in (True, False):
            recreate = Recreate("epair0", PairSettings(coalesce=first), (), first=first)
            await Steps(scene).apply(Plan(steps=(Change("epair1", wanted, ()), recreate)))
            kinds = [each for each in scene.host.steps if each in ("converge", "close_taps")]
            assert kinds == (["close_taps", "converge"] if first else ["converge", "close_taps"])
            scene.host.steps.clear()


@on_loop
async def test_only_what_was_lost_is_restored() -> None:
    async with make_scene() as scene:
        b = {"addresses": ["10.0.0.2/24"], "routes": [{"to": "default", "via": "10.0.0.1"}]}
        await scene.interfaces.create("epair0", {"b": b})
        link = scene.host.links["epair0b"]
        assert link.settings is not None
        before = link.settings
        link.settings = replace(before, routes=())
        await Steps(scene).apply(Plan(restored=(Restore("epair0b", (), ("default via 10.0.0.1",)),)))
        assert link.settings == before
        scene.host.steps.clear()
        await Steps(scene).apply(Plan(restored=(Restore("epair7b", ("10.0.0.9/24",)),)))
        assert scene.host.steps == []
