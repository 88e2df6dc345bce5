"""Devices that are changed in place."""

from __future__ import annotations

import errno

import pytest

from epaird.config.settings import HalfSettings
from epaird.control.interfaces.inplace import change_device, refuse_fixed
from epaird.control.operations import Refused
from epaird.kernel.errors import KernelError
from tests.control.stage import idle_stage
from tests.loop import on_loop


@pytest.mark.parametrize("key", ["netns", "queues"])
def test_keys_that_cannot_be_changed_in_place_are_refused(key: str) -> None:
    refuse_fixed("epair0", {key: 1, "mtu": 1500}, {key: 1, "mtu": 9000})
    with pytest.raises(Refused, match=f"epair0: {key} cannot be changed in place: ") as refused:
        refuse_fixed("epair0", {key: 1}, {key: 2})
    assert refused.value.errno == errno.EINVAL


@on_loop
async def test_only_differences_are_applied() -> None:
    async with idle_stage() as stage:
        a = (await stage.make()).halves[0]
        before = a.settings
        stage.host.steps.clear()
        await change_device(stage.host, a, before, before, (a.mac, a.mac))
        assert stage.host.steps == []
        await change_device(stage.host, a, before, HalfSettings(mtu=9000, up=False), (a.mac, a.mac))
        assert stage.host.steps == ["reconfigure"]
        assert (a.mtu, a.up) == (9000, False)
        await change_device(stage.host, a, before, HalfSettings(name="eth7"), (a.mac, a.mac))
        assert stage.host.steps == ["reconfigure", "rename"]


@on_loop
async def test_a_failure_applies_the_old_settings_again() -> None:
    async with idle_stage() as stage:
        a = (await stage.make()).halves[0]
        link = stage.host.links["epair0a"]
        stage.host.fail("rename", errno.EEXIST)
        with pytest.raises(KernelError):
            await change_device(
                stage.host, a, a.settings, HalfSettings(mtu=9000, name="eth7"), (a.mac, a.mac)
            )
        assert link.settings is not None
        assert (link.settings.mtu, a.mtu) == (1500, 1500)
