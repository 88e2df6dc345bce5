"""The requirements that every kind of interface meets."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from epaird.config.reading import parse
from epaird.control.interfaces.ifnet import Clone
from epaird.control.interfaces.kind import AnyKind
from epaird.control.operations import Refused
from epaird.kernel.errors import KernelError
from tests.control.interfaces.scene import Scene, make_scene
from tests.loop import on_loop

KINDS: Mapping[str, Mapping[str, Any]] = {
    "epair": {"a": {"addresses": ["10.0.0.1/24"]}, "b": {"mtu": 9000}},
    "lo": {"addresses": ["10.0.0.1/24"], "mtu": 9000},
}
"""Settings of one interface of each kind."""


@asynccontextmanager
async def one(name: str) -> AsyncIterator[tuple[Scene, AnyKind, Clone]]:
    """Provide one interface of a kind."""
    async with make_scene() as scene:
        (kind,) = (kind for kind in scene.registry.kinds if kind.cloner.name == name)
        await scene.interfaces.create(f"{name}7", KINDS[name])
        clone = kind.get(f"{name}7")
        assert clone is not None
        yield scene, kind, clone


def test_every_kind_is_tried() -> None:
    async def kinds() -> None:
        async with make_scene() as scene:
            assert [kind.cloner.name for kind in scene.registry.kinds] == list(KINDS)

    on_loop(kinds)()


@pytest.mark.parametrize("name", KINDS)
def test_created_interfaces_are_known_by_name_and_destroyed_whole(name: str) -> None:
    async def life() -> None:
        async with one(name) as (scene, kind, clone):
            assert clone in list(kind)
            assert kind.get(clone.name) is clone
            assert [ifnet.clone for ifnet in clone.ifnets] == [clone] * len(kind.cloner.suffixes)
            assert {ifnet.device for ifnet in clone.ifnets} == set(kind.cloner.devices(7))
            assert [reading.kind for reading in kind.readings(clone.ifnets)] == [name] * len(clone.ifnets)
            with pytest.raises(KernelError) as refused:
                await scene.registry.create(clone.name, clone.settings)
            assert refused.value.errno == errno.EEXIST
            await kind.destroy(clone)
            assert clone.gone.is_set()
            assert kind.get(clone.name) is None
            assert scene.devices() == ["lo0"]

    on_loop(life)()


@pytest.mark.parametrize("name", KINDS)
def test_the_observed_settings_would_create_the_same_interface(name: str) -> None:
    async def compare() -> None:
        async with one(name) as (_, kind, clone):
            observed = kind.observed(clone)
            table = kind.table_of(parse({name: {clone.name: observed.model_dump()}}))
            assert table[clone.name] == observed
            assert kind.matched(clone, observed) == observed
            assert kind.matched(clone, None) == clone.settings
            kind.confirm(clone, observed)
            assert clone.settings == kind.exact(clone) == observed
            assert clone.origin == "configuration"

    on_loop(compare)()


@pytest.mark.parametrize("name", KINDS)
def test_a_change_that_fails_leaves_the_settings(name: str) -> None:
    async def change() -> None:
        async with one(name) as (scene, kind, clone):
            before = clone.settings
            after = kind.merged(clone, None, {"mtu": 1400})
            scene.host.fail("set_mtu", errno.EPERM)
            with pytest.raises(KernelError):
                await scene.registry.change([(clone, after)])
            assert clone.settings == before
            await scene.registry.change([(clone, after)])
            assert {ifnet.mtu for ifnet in clone.ifnets} == {1400}
            with pytest.raises(Refused, match="netns cannot be changed in place"):
                await scene.registry.change([(clone, kind.merged(clone, None, {"netns": "red"}))])

    on_loop(change)()


@pytest.mark.parametrize("name", KINDS)
def test_rewired_interfaces_are_forwarded_by_the_assigned_worker(name: str) -> None:
    async def rewire() -> None:
        async with one(name) as (scene, _, clone):
            before = {ifnet.cable for ifnet in clone.ifnets}
            await scene.registry.reassign(clone, clone.workers)
            after = {ifnet.cable for ifnet in clone.ifnets}
            assert None not in after
            assert not before & after
            assert clone.name in scene.worker.attachments

    on_loop(rewire)()


@pytest.mark.parametrize("name", KINDS)
def test_a_saved_interface_is_adopted_with_its_devices(name: str) -> None:
    async def adopt() -> None:
        async with one(name) as (_, kind, clone):
            configured = kind.merged(clone, None, {"mtu": 1400})
            saved = kind.save(clone, configured)
            assert (saved.name, saved.settings, saved.said) == (clone.name, clone.settings, configured)
            assert kind.save(clone, clone.settings).said is None
            adopted = kind.adopt(saved, [ifnet.tap for ifnet in clone.ifnets])
            assert adopted in list(kind)
            for ifnet in adopted.ifnets:
                if ifnet.cable is None:
                    kind.cable_of(ifnet).adopt({})
            assert kind.save(adopted, configured) == saved
            kind.track(adopted)

    on_loop(adopt)()
