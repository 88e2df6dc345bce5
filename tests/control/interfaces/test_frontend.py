"""Requests, their rules and errors, on a machine without a kernel."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace

import pytest

from epaird.config.settings import PairSettings
from epaird.control.operations import Refused
from epaird.control.readings import MissingReading
from tests.control.interfaces.scene import make_scene, refused
from tests.loop import on_loop
from tests.waiting import eventually


@on_loop
async def test_the_unit_of_an_interface_that_is_being_created_is_taken() -> None:
    async with make_scene() as scene:
        held = scene.host.hold("open_tap")
        first = asyncio.create_task(scene.interfaces.create("epair", {}))
        await eventually(held.reached.is_set)
        second = asyncio.create_task(scene.interfaces.create("epair", {}))
        assert await refused(scene.interfaces.create("epair0", {})) == "EEXIST"
        held.released.set()
        assert sorted([await first, await second]) == ["epair0", "epair1"]


@on_loop
async def test_an_error_of_the_kernel_is_the_error_of_the_refusal() -> None:
    async with make_scene() as scene:
        before = scene.devices()
        for operation, code in (("open_tap", "EIO"), ("configure", "ENOMEM"), ("place", "EPERM")):
            scene.host.fail(operation, getattr(errno, code))
            assert await refused(scene.interfaces.create("epair", {})) == code
            assert scene.devices() == before
        await scene.interfaces.create("epair0", {})
        scene.host.fail("set_mtu", errno.EINVAL)
        assert await refused(scene.interfaces.change("epair0a", {"mtu": 9000})) == "EINVAL"
        assert scene.one("epair0a").mtu == 1500


@on_loop
async def test_permanent_names_are_found_before_names_of_devices() -> None:
    async with make_scene() as scene:
        for name in ("epair0", "epair1"):
            await scene.interfaces.create(name, {})
        link = scene.host.links["epair0a"]
        link.place = replace(link.place, name="epair1a")
        scene.host.report(scene.host.event("epair0a"))
        assert [each.device for each in scene.interfaces.interface("epair1a")] == ["epair1a"]
        assert scene.one("epair0a").name == "epair1a"
        with pytest.raises(Refused, match="there is no interface"):
            scene.interfaces.interface("epair7")
        missing = MissingReading("epair7a", "epair", "epair7", "eth0", "red", "it is busy")
        scene.interfaces._registry.missing = lambda: (missing,)
        for name in ("epair7", "epair7a"):
            with pytest.raises(Refused, match=r"^epair7 is in the configuration and missing: it is busy$"):
                scene.interfaces.interface(name)
        assert scene.interfaces.missing() == (missing,)


@on_loop
async def test_only_what_the_daemon_created_is_destroyed() -> None:
    async with make_scene() as scene:
        scene.host.foreign_devices = frozenset({"eth0", "epair9a"})
        for name in sorted(scene.host.foreign_devices):
            assert await refused(scene.interfaces.destroy(name)) == "EINVAL"
        for name in ("epair9", "epair9b", "eth1"):
            assert await refused(scene.interfaces.destroy(name)) == "ENXIO"
        await scene.interfaces.create("epair9", {"a": {"name": "net9"}})
        await scene.interfaces.destroy("net9")
        assert await refused(scene.interfaces.destroy("epair9a")) == "EINVAL"


@on_loop
async def test_an_interface_that_is_being_created_is_not_foreign() -> None:
    async with make_scene() as scene:
        held = scene.host.hold("configure")
        creation = asyncio.create_task(scene.interfaces.create("epair3", {}))
        await eventually(held.reached.is_set)
        assert await refused(scene.interfaces.destroy("epair3a")) == "ENXIO"
        held.released.set()
        await creation
        await scene.interfaces.destroy("epair3a")


@on_loop
async def test_an_interface_with_a_number_that_is_too_high_can_be_destroyed() -> None:
    async with make_scene() as scene:
        assert await refused(scene.interfaces.create("epair40000", {})) == "EINVAL"
        # An earlier version created it, and this one took it over.
        await scene.registry.pairs.create("epair40000", PairSettings(), "runtime")
        assert await scene.interfaces.create("epair", {}) == "epair0"
        await scene.interfaces.destroy("epair40000")
