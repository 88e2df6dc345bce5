"""The registry: names, kinds and reports of workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from epaird.ipc.messages import UnknownFamily
from tests.control.interfaces.scene import make_scene, refused
from tests.loop import on_loop
from tests.waiting import eventually


@on_loop
async def test_a_queue_that_fills_and_drains_is_published() -> None:
    async with make_scene(real=True, queue_limit=4) as scene:
        await scene.interfaces.create("epair0", {})
        events = scene.interfaces.events()
        a, b = (scene.host.links[device].owner for device in ("epair0a", "epair0b"))
        while not scene.worker.reading().oactive:
            a.sends_all_it_can()
            await asyncio.sleep(0.001)
        reading = scene.one("epair0b")
        assert reading.held_bytes > 0
        assert reading.refs == 1 + 4
        event = await anext(events)
        assert (event.what, event.interface, event.detail) == ("overflow", "epair0a", "worker 0")
        draining = asyncio.create_task(anext(events))
        while not draining.done():
            b.receives()
            await asyncio.sleep(0.001)
        assert ((await draining).what, (await draining).interface) == ("drained", "epair0a")
        assert scene.one("epair0b").held_bytes == 0


@on_loop
async def test_a_name_refers_to_an_interface_or_to_a_whole_pair() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {})
        registry = scene.registry
        pair, half, lo = (registry.find(name) for name in ("epair0", "epair0b", "lo0"))
        assert pair is not None
        assert half is not None
        assert lo is not None
        assert pair.ifnet is None
        assert half.clone is pair.clone
        assert lo.ifnets == lo.clone.ifnets
        assert [ifnet.device for ifnet in pair.ifnets] == ["epair0a", "epair0b"]
        assert [ifnet.device for ifnet in half.ifnets] == ["epair0b"]
        assert registry.find("epair0c") is None
        assert registry.find("\ud800") is None
        assert half.ifnet is not None
        half.ifnet.place = replace(half.ifnet.place, name="e\\xff")
        for name in ("e\\xff", "e\udcff"):
            assert (found := registry.find(name)) is not None
            assert found.ifnet is half.ifnet
        assert registry.find("e\\x5cxff") is None
        assert [clone.name for clone in registry] == ["epair0", "lo0"]
        assert [ifnet.device for ifnet in registry.ifnets] == ["epair0a", "epair0b", "lo0"]


@on_loop
async def test_loopbacks_can_be_disallowed() -> None:
    async with make_scene() as scene:
        scene.registry.allow_loopbacks(False)
        assert scene.interfaces.cloners() == ("epair",)
        assert await refused(scene.interfaces.create("lo1", {})) == "EINVAL"
        scene.registry.allow_loopbacks(True)
        assert await scene.interfaces.create("lo", {}) == "lo1"


@on_loop
async def test_units_are_those_that_exist_or_are_being_created() -> None:
    async with make_scene() as scene:
        held = scene.host.hold("open_tap")
        creating = asyncio.create_task(scene.interfaces.create("epair3", {}))
        await eventually(held.reached.is_set)
        assert scene.registry.units(scene.registry.pairs.cloner) == {3}
        assert scene.registry.units(scene.registry.loopbacks.cloner) == {0}
        held.released.set()
        await creating


@on_loop
async def test_packets_of_an_unknown_family_are_logged(warnings: Callable[[], list[str]]) -> None:
    async with make_scene() as scene:
        scene.registry.worker_reported(scene.worker, UnknownFamily("lo0", 5))
        (line,) = warnings()
        assert line.startswith("lo0: a packet is neither IPv4 nor IPv6 (its first four bits are 5): ")
