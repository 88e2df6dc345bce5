"""The registry: names, kinds and reports of workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from epaird.ipc.messages import UnknownFamily
from tests.control.interfaces.scene import refused, scene
from tests.loop import on_loop
from tests.waiting import eventually


@on_loop
async def test_a_queue_that_fills_and_drains_is_published() -> None:
    async with scene(real=True, queue_limit=4) as it:
        await it.interfaces.create("epair0", {})
        events = it.interfaces.events()
        a, b = (it.host.links[device].owner for device in ("epair0a", "epair0b"))
        while not it.worker.reading().oactive:
            a.sends_all_it_can()
            await asyncio.sleep(0.001)
        reading = it.one("epair0b")
        assert reading.held_bytes > 0
        assert reading.refs == 1 + 4
        event = await anext(events)
        assert (event.what, event.interface, event.detail) == (
            "overflow", "", "worker 0, when epair0a transmitted",
        )  # fmt: skip
        draining = asyncio.create_task(anext(events))
        while not draining.done():
            b.receives()
            await asyncio.sleep(0.001)
        assert (await draining).what == "drained"
        assert it.one("epair0b").held_bytes == 0


@on_loop
async def test_a_name_refers_to_an_interface_or_to_a_whole_pair() -> None:
    async with scene() as it:
        await it.interfaces.create("epair0", {})
        registry = it.registry
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
        assert [clone.name for clone in registry] == ["epair0", "lo0"]
        assert [ifnet.device for ifnet in registry.ifnets] == ["epair0a", "epair0b", "lo0"]


@on_loop
async def test_loopbacks_can_be_disallowed() -> None:
    async with scene() as it:
        it.registry.allow_loopbacks(False)
        assert it.interfaces.cloners() == ("epair",)
        assert await refused(it.interfaces.create("lo1", {})) == "EINVAL"
        it.registry.allow_loopbacks(True)
        assert await it.interfaces.create("lo", {}) == "lo1"


@on_loop
async def test_units_are_those_that_exist_or_are_being_created() -> None:
    async with scene() as it:
        held = it.host.hold("open_tap")
        creating = asyncio.create_task(it.interfaces.create("epair3", {}))
        await eventually(held.reached.is_set)
        assert it.registry.units(it.registry.pairs.cloner) == {3}
        assert it.registry.units(it.registry.loopbacks.cloner) == {0}
        held.released.set()
        await creating


@on_loop
async def test_packets_of_an_unknown_family_are_logged(warnings: Callable[[], list[str]]) -> None:
    async with scene() as it:
        it.registry.worker_reported(it.worker, UnknownFamily("lo0", 5))
        (line,) = warnings()
        assert line.startswith("lo0: a packet is neither IPv4 nor IPv6 (its first four bits are 5): ")
