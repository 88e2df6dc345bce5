"""Interfaces as values: references, bounds and the properties of their devices."""

from __future__ import annotations

from epaird.config.settings import HalfSettings, LoopbackSettings
from epaird.control.interfaces.ifnet import link_settings
from epaird.ipc import counters
from epaird.kernel.link import Address, Route
from tests.control.interfaces.scene import make_scene
from tests.control.stage import idle_stage
from tests.loop import on_loop


@on_loop
async def test_references_are_the_interface_its_frames_and_its_drain_lists() -> None:
    async with idle_stage() as stage:
        pair = await stage.make(queues=2)
        a = pair.halves[0]
        assert a.refs(stage.table) == 1
        for slot, frames in zip(a.slots, (3, 4), strict=True):
            stage.table.slot(slot)[counters.IN_FLIGHT] = frames
            stage.table.slot(slot)[counters.LISTED] = 1
        assert a.refs(stage.table) == 1 + 3 + 4 + 2


@on_loop
async def test_a_half_and_a_loopback_differ_in_their_properties() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {"a": {"sndbuf": 65536, "mac": "02:00:00:00:00:01"}})
        a, b, lo = scene.registry.ifnets
        assert (a.bounded, b.bounded, lo.bounded) == (True, False, False)
        assert (a.lladdr, lo.lladdr) == ("02:00:00:00:00:01", None)
        assert (a.plug, lo.plug) == (a, None)
        assert [each.clone.noun for each in (a, b, lo)] == ["pair", "pair", "loopback"]


@on_loop
async def test_recorded_settings_change_no_device() -> None:
    async with idle_stage() as stage:
        pair = await stage.make()
        steps = len(stage.host.steps)
        settings = pair.settings.model_copy(update={"b": HalfSettings(mtu=9000)})
        pair.record(settings)
        assert (pair.settings, pair.halves[1].settings.mtu) == (settings, 9000)
        assert len(stage.host.steps) == steps


def test_the_properties_of_a_device() -> None:
    half = HalfSettings.model_validate(
        {"mtu": 1400, "addresses": ["10.0.0.1/24"], "routes": [{"to": "default", "via": "10.0.0.2"}]}
    )
    found = link_settings(half, "02:00:00:00:00:01")
    assert (found.mtu, found.mac, found.up, found.txqueuelen) == (1400, "02:00:00:00:00:01", True, 10_000)
    assert (found.addresses, found.routes) == ((Address("10.0.0.1/24"),), (Route("default", "10.0.0.2"),))
    assert link_settings(LoopbackSettings()).mac is None
