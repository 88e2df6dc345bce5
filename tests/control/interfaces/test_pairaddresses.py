"""Hardware addresses: taken for new pairs, changed, and returned."""

from __future__ import annotations

import contextlib
import errno

import pytest

from epaird.config.settings import HalfSettings, PairSettings
from epaird.control.interfaces.pairaddresses import PairAddresses
from epaird.kernel.errors import KernelError
from epaird.kernel.namespace import Identity
from epaird.names import mac
from epaird.names.cloners import SIDES
from epaird.names.macpool import DeviceNumber, MacPool, NoAddress
from tests.control.fake import HOME
from tests.control.stage import idle_stage
from tests.loop import on_loop

OWN = "02:00:00:00:00:01"


@on_loop
async def test_addresses_are_taken_until_the_pair_could_not_be_created() -> None:
    async with idle_stage() as stage:
        pool = MacPool(1)
        addresses = PairAddresses(pool, stage.host)
        settings = PairSettings(a=HalfSettings(mac=OWN), b=HalfSettings(mac="stable"))
        async with contextlib.AsyncExitStack() as undo:
            macs = addresses.take(undo, "epair0", settings)
            assert macs["a"] == OWN
            for taken in macs.values():
                with pytest.raises(NoAddress):
                    pool.claim(taken)
            with pytest.raises(KernelError, match=f"epair1: mac {OWN}") as refused:
                addresses.take(undo, "epair1", settings)
            assert refused.value.errno == errno.EEXIST
        for returned in macs.values():
            pool.claim(returned)


@on_loop
async def test_addresses_that_no_setting_names_are_derived_later() -> None:
    async with idle_stage() as stage:
        pool = MacPool(1)
        addresses = PairAddresses(pool, stage.host)
        a, b = (await stage.make()).halves
        async with contextlib.AsyncExitStack() as undo:
            macs = addresses.take(undo, "epair0", PairSettings(a=HalfSettings(mac=OWN)))
            a.mac, b.mac = (macs.get(side, "") for side in SIDES)
            assert (a.mac, b.mac) == (OWN, "")
            await addresses.derive(undo, (a, b), DeviceNumber(1, 7))
            usual = MacPool(1).derive(DeviceNumber(1, 7))
            assert (a.mac, b.mac) == (OWN, usual["b"])
            assert pool._taken == {OWN, b.mac}  # the other of the couple was returned
            await addresses.derive(undo, (a, b), DeviceNumber(1, 8))
            assert b.mac == usual["b"]
        assert not pool._taken


@on_loop
async def test_an_address_that_another_device_has_is_not_given() -> None:
    async with idle_stage() as stage:
        usual = MacPool(mac.host_id()).derive(DeviceNumber(HOME.inode, stage.host.next_index))
        stage.host.foreign_addresses = frozenset({usual["b"]})
        macs = [half.mac for half in (await stage.make()).halves]
        assert set(macs).isdisjoint(usual.values())
        assert macs[0][:-2] == macs[1][:-2]


@on_loop
async def test_each_namespace_is_looked_up_once() -> None:
    async with idle_stage() as stage:
        stage.host.namespaces["red"] = Identity(4, 1)
        for name, halves, times in (
            ("epair0", {}, 1),
            ("epair1", {"a": {"netns": "red"}, "b": {"netns": "red"}}, 1),
            ("epair2", {"a": {"netns": "red"}}, 2),
            ("epair3", {"a": {"mac": OWN}, "b": {"mac": "stable"}}, 0),
        ):
            stage.host.steps.clear()
            await stage.make(name, **halves)
            assert stage.host.steps.count("hardware_addresses") == times, name


@on_loop
async def test_a_pair_is_not_created_when_the_addresses_cannot_be_looked_up() -> None:
    async with idle_stage() as stage:
        stage.host.fail("hardware_addresses")
        with pytest.raises(KernelError, match="hardware_addresses"):
            await stage.make()
        assert not stage.host.links
        await stage.make()


@on_loop
async def test_a_changed_address_is_taken_and_the_unused_one_returned() -> None:
    async with idle_stage() as stage:
        half = (await stage.make()).halves[0]
        pool = MacPool(1)
        addresses = PairAddresses(pool, stage.host)
        addresses.adopt(half)
        assert addresses.change(half, HalfSettings(mac=half.mac)) == half.mac
        assert addresses.change(half, HalfSettings(mac=OWN)) == OWN
        addresses.release_unused(half, half.mac)
        assert pool._taken == {OWN, half.mac}
        addresses.release_unused(half, OWN)
        assert pool._taken == {half.mac}
        derived = addresses.change(half, HalfSettings())
        assert pool._taken == {half.mac, derived}
        stable = addresses.change(half, HalfSettings(mac="stable"))
        assert pool._taken == {half.mac, derived, stable}
        with pytest.raises(KernelError, match=f"epair0a: mac {derived} is another interface's"):
            addresses.change(half, HalfSettings(mac=derived))
        addresses.release(half)
        assert pool._taken == {derived, stable}
