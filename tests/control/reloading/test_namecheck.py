"""The values that a comparison depends on, and the cases in which it is left out."""

from __future__ import annotations

import pytest

from epaird.config.reading import parse
from epaird.control.reloading import remaking
from epaird.control.reloading.inforce import ConfigurationInForce
from epaird.control.reloading.namecheck import NameCheck
from epaird.kernel.namespace import Identity
from epaird.kernel.netnswatch import EVERY_NAME
from tests.control.interfaces.scene import make_scene
from tests.control.reloading.running import Begin, pair
from tests.loop import on_loop
from tests.waiting import eventually


@on_loop
async def test_a_view_is_the_same_until_something_changes() -> None:
    async with make_scene() as scene:
        scene.host.namespaces |= {"red": Identity(4, 1), "green": Identity(4, 2)}
        in_force = ConfigurationInForce(parse({"epair": {"epair0": {"a": {"netns": "red"}}}}))
        names = NameCheck(in_force, scene.registry, scene.host)
        first = names.view()
        scene.host.namespaces["green"] = Identity(4, 3)
        assert names.view() == first, "nothing uses it"
        scene.host.namespaces["red"] = Identity(4, 3)
        second = names.view()
        assert second != first
        del scene.host.namespaces["red"]
        third = names.view()
        assert third not in (first, second)
        scene.registry.bus.changed()
        assert names.view() not in (first, second, third)


@on_loop
async def test_names_of_the_configuration_and_of_interfaces_are_looked_up() -> None:
    async with make_scene() as scene:
        scene.host.namespaces |= {"/run/docker/netns/blue": Identity(4, 1)}
        in_force = ConfigurationInForce(parse({}))
        names = NameCheck(in_force, scene.registry, scene.host)
        assert not names.concerned(EVERY_NAME)
        in_force.applied(parse({"namespaces": {"create": ["red"]}}))
        assert names.concerned({"red", "blue"})
        assert not names.concerned({"blue"})
        await scene.interfaces.create("epair0", {"a": {"netns": "/run/docker/netns/blue"}})
        assert names.concerned({"blue"})
        assert not names.concerned({"green"})
        assert names.concerned(EVERY_NAME)


@on_loop
async def test_at_rest_namespaces_are_not_opened(started: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remaking, "LOOK_S", 0.01)
    async with started(epair={"epair0": pair()}) as running:
        looks = 0
        leads_to = running.host.leads_to

        def counted(names: tuple[str, ...]) -> tuple[Identity | None, ...]:
            nonlocal looks
            looks += 1
            return leads_to(names)

        monkeypatch.setattr(running.host, "leads_to", counted)
        await eventually(lambda: looks >= 3)
        before, steps = looks, len(running.host.steps)
        await eventually(lambda: looks >= before + 10)
        assert running.host.steps[steps:] == []
        running.host.namespaces["red"] = Identity(4, 99)
        await eventually(lambda: len(running.host.steps) > steps)
