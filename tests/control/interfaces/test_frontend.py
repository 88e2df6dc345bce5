"""What a request may do, on a machine without a kernel."""

from __future__ import annotations

import asyncio
import errno

import pytest

from epaird.control.operations import Refused
from tests.control.interfaces.scene import refused, scene
from tests.loop import on_loop
from tests.waiting import eventually


@on_loop
async def test_the_unit_of_an_interface_that_is_being_created_is_taken() -> None:
    async with scene() as it:
        held = it.host.hold("open_tap")
        first = asyncio.create_task(it.interfaces.create("epair", {}))
        await eventually(held.reached.is_set)
        second = asyncio.create_task(it.interfaces.create("epair", {}))
        assert await refused(it.interfaces.create("epair0", {})) == "EEXIST"
        held.released.set()
        assert sorted([await first, await second]) == ["epair0", "epair1"]


@on_loop
async def test_an_error_of_the_kernel_is_the_error_of_the_refusal() -> None:
    async with scene() as it:
        before = it.devices()
        for operation, code in (("open_tap", "EIO"), ("configure", "ENOMEM"), ("place", "EPERM")):
            it.host.fail(operation, getattr(errno, code))
            assert await refused(it.interfaces.create("epair", {})) == code
            assert it.devices() == before
        await it.interfaces.create("epair0", {})
        it.host.fail("reconfigure", errno.EINVAL)
        assert await refused(it.interfaces.change("epair0a", {"mtu": 9000})) == "EINVAL"
        assert it.one("epair0a").mtu == 1500


@on_loop
async def test_permanent_names_are_found_before_names_of_devices() -> None:
    async with scene() as it:
        for name in ("epair0", "epair1"):
            await it.interfaces.create(name, {})
        place = it.host.links["epair0a"].place
        await it.host.rename(it.host.links["epair0a"].tap, place, "epair1a")
        it.host.tell(it.host.event("epair0a"))
        assert [each.device for each in it.interfaces.interface("epair1a")] == ["epair1a"]
        assert it.one("epair0a").name == "epair1a"
        with pytest.raises(Refused, match="there is no interface"):
            it.interfaces.interface("epair7")
