"""Pairs whose settings are changed in place, on a machine whose every step can fail."""

from __future__ import annotations

import errno

import pytest

from epaird.control.interfaces.ifnet import Pair
from epaird.control.interfaces.pairsettings import merged_settings
from epaird.control.operations import Refused
from epaird.kernel.errors import KernelError
from tests.control.stage import IdleWorker, Stage, idle_stage
from tests.loop import on_loop

MAC = "02:00:00:00:00:07"


async def change(stage: Stage[IdleWorker], pair: Pair, **request: object) -> None:
    """Change keys of a pair or of both halves."""
    keys = stage.pairs.requested(pair, None, request)
    await stage.in_place.apply([stage.pairs.changing(pair, merged_settings(pair, None, request), keys)])


@on_loop
async def test_each_key_is_applied_to_the_device_that_has_it() -> None:
    async with idle_stage() as stage:
        pair = await stage.make()
        a, b = pair.halves
        before = b.mac
        await change(stage, pair, a={"mtu": 1400, "mac": MAC, "sndbuf": 65536, "name": "eth7"})
        link, other = stage.host.links["epair0a"], stage.host.links["epair0b"]
        assert link.settings is not None
        assert other.settings is not None
        assert (link.settings.mtu, link.settings.mac, link.place.name) == (1400, MAC, "eth7")
        assert (other.settings.mtu, other.settings.mac, other.place.name) == (1500, before, "epair0b")
        assert (a.mac, a.mtu, b.mac, b.mtu) == (MAC, 1400, before, 1500)
        assert pair.settings.a == a.settings


@on_loop
async def test_a_failure_of_the_second_half_restores_the_first() -> None:
    async with idle_stage() as stage:
        pair = await stage.make()
        a, b = pair.halves
        settings, macs = pair.settings, (a.mac, b.mac)
        stage.host.fail("set_name", errno.EEXIST)
        with pytest.raises(KernelError):
            await change(stage, pair, a={"mtu": 1400, "mac": MAC}, b={"mtu": 1400, "name": "eth7"})
        assert (pair.settings, (a.mac, b.mac)) == (settings, macs)
        for half in pair.halves:
            link = stage.host.links[half.device]
            assert link.settings is not None
            assert (link.settings.mtu, link.settings.mac, half.mtu) == (1500, half.mac, 1500)
        assert (await stage.make("epair1", a={"mac": MAC})).halves[0].mac == MAC, "it is free again"


@on_loop
async def test_what_cannot_be_changed_in_place_changes_nothing() -> None:
    async with idle_stage() as stage:
        pair = await stage.make()
        settings = pair.settings
        stage.host.steps.clear()
        with pytest.raises(Refused, match="epair0b: netns cannot be changed in place"):
            await change(stage, pair, mtu=1400, b={"netns": "red"})
        assert (pair.settings, stage.host.steps) == (settings, [])


@on_loop
async def test_other_ways_of_forwarding_attach_the_cable_again() -> None:
    async with idle_stage() as stage:
        pair = await stage.make(carrier="always")
        (worker,) = stage.workers
        worker.requests.clear()
        await change(stage, pair, carrier="peer")
        assert worker.requests == [], "only the rule of the carrier is another"
        await change(stage, pair, coalesce=False)
        assert not worker.attachments["epair0"].spec.coalesce
        await change(stage, pair, carrier="off")
        assert sorted(worker.attachments) == ["epair0a", "epair0b"]
        assert pair.plugged == "peer"
