"""Devices that get back what the kernel took from them, on a machine without a kernel."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from epaird.control.interfaces import tracking
from epaird.control.interfaces.convergence import wanted
from epaird.control.machine.host import Place
from epaird.kernel.link import Address, LinkSettings
from epaird.kernel.state import DeviceState
from epaird.kernel.tun import Tap
from epaird.kernel.watch import LinkEvent, LinkEventKind
from epaird.plan.steps import Restore
from tests.control.fake import Link
from tests.control.interfaces.scene import Scene, make_scene
from tests.loop import on_loop, turns
from tests.waiting import eventually

ROUTE = {"to": "default", "via": "10.0.0.2"}
BOTH = {"addresses": ["10.0.0.1/24", "fd00::1/64"], "routes": [ROUTE]}


async def routed(scene: Scene, name: str = "epair0") -> tuple[Link, LinkSettings]:
    """Create a pair whose half a has addresses and a route; return the half's device and its settings."""
    await scene.interfaces.create(name, {"a": BOTH})
    link = scene.host.links[f"{name}a"]
    assert link.settings is not None
    return link, link.settings


def flap(scene: Scene, link: Link) -> None:
    """Set a device down and up; the kernel reports both."""
    for up in (False, True):
        link.flap(up)
        scene.host.report(scene.host.event(link.tap.name))


@on_loop
async def test_a_flap_is_repaired_and_no_more_than_the_flap() -> None:
    async with make_scene() as scene:
        link, before = await routed(scene)
        flap(scene, link)
        assert link.settings != before
        await eventually(lambda: link.settings == before)
        link.settings = replace(before, addresses=before.addresses[1:])
        flap(scene, link)
        await eventually(lambda: link.settings is not None and link.settings.routes == before.routes)
        assert link.settings.addresses == before.addresses[1:], "somebody had removed it"


@on_loop
async def test_a_flap_whose_reports_come_late_is_repaired() -> None:
    async with make_scene() as scene:
        link, before = await routed(scene)
        link.flap(False)
        down = scene.host.event("epair0a")
        link.flap(True)
        scene.host.report(down, scene.host.event("epair0a"))
        await eventually(lambda: link.settings == before)


@on_loop
async def test_a_flap_that_was_never_reported_is_repaired_after_an_overrun(
    warnings: Callable[[], list[str]],
) -> None:
    async with make_scene() as scene:
        link, before = await routed(scene)
        link.flap(False)
        link.flap(True)
        scene.host.report(LinkEvent(LinkEventKind.OVERRUN))
        await eventually(lambda: link.settings == before)
        assert warnings() == ["the kernel has dropped link events: checking every interface"]


@on_loop
async def test_an_mtu_without_ipv6_and_back_is_repaired() -> None:
    async with make_scene() as scene:
        link, before = await routed(scene)
        assert link.settings is not None
        for mtu in (1000, 1500):
            link.settings = replace(before, addresses=before.addresses[:1], routes=())
            link.statistics = replace(link.statistics, mtu=mtu)
            scene.host.report(scene.host.event("epair0a"))
            (half, _, _) = scene.registry.ifnets
            assert len(wanted(half).addresses) == (1 if mtu == 1000 else 2)
        await eventually(lambda: link.settings == before)


@on_loop
async def test_a_flap_between_two_polls_is_repaired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "POLL_S", 0.001)
    monkeypatch.setattr(tracking, "missing_optional", list)
    async with make_scene() as scene:
        scene.host.add_namespace("red")
        await scene.interfaces.create("epair0", {"a": {**BOTH, "netns": "red"}})
        link = scene.host.links["epair0a"]
        before = link.settings
        assert before is not None
        polling = asyncio.create_task(scene.registry.poll_namespaces())
        link.flap(False)
        link.flap(True)
        await eventually(lambda: link.settings == before)
        link.settings = removed = replace(before, routes=())
        polls = scene.host.steps.count("present")
        await eventually(lambda: scene.host.steps.count("present") > polls + 2)
        assert link.settings == removed, "somebody has removed it"
        polling.cancel()


@on_loop
async def test_repeated_flaps_are_repaired_together() -> None:
    async with make_scene() as scene:
        links = [await routed(scene, f"epair{number}") for number in range(3)]
        held = scene.host.hold("converge")
        flap(scene, links[0][0])
        await eventually(held.reached.is_set)
        scene.host.steps.clear()
        for _ in range(5):
            for link, _ in links:
                flap(scene, link)
        held.released.set()
        await eventually(lambda: all(link.settings == before for link, before in links))
        await turns()
        assert scene.host.steps.count("converge") == 1


@on_loop
async def test_a_failure_is_logged_once_for_each_cause(warnings: Callable[[], list[str]]) -> None:
    async with make_scene() as scene:
        link, before = await routed(scene)

        async def flap_with(error: int | None) -> list[str]:
            if error is not None:
                scene.host.fail("converge", error)
            done = scene.host.steps.count("converge")
            flap(scene, link)
            await eventually(lambda: scene.host.steps.count("converge") == done + 1)
            await turns()
            return warnings()

        hint = "not restored; epairctl plan shows what is missing"
        assert await flap_with(errno.EINVAL) == [f"converge: Invalid argument: {hint}"]
        assert await flap_with(errno.EINVAL) == []
        assert await flap_with(errno.EPERM) == [f"converge: Operation not permitted: {hint}"]
        assert await flap_with(None) == []
        assert await flap_with(errno.ENODEV) == [], "a device that is gone is reported elsewhere"
        assert await flap_with(errno.EPERM) == [f"converge: Operation not permitted: {hint}"]
        await eventually(lambda: link.settings != before)


@on_loop
async def test_a_device_that_is_destroyed_meanwhile_is_no_error(warnings: Callable[[], list[str]]) -> None:
    async with make_scene() as scene:
        link, _ = await routed(scene)
        held = scene.host.hold("set_mtu")
        changing = scene.registry.change([])
        await changing
        del held
        flap(scene, link)
        await scene.interfaces.destroy("epair0")
        await turns()
        assert warnings() == []


@on_loop
async def test_the_state_of_a_device_that_can_have_lost_nothing_is_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with make_scene() as scene:
        read: list[str] = []
        present = scene.host.present

        async def recorded(devices: Mapping[Tap, Place]) -> dict[Tap, DeviceState]:
            read.extend(tap.name for tap in devices)
            return await present(devices)

        monkeypatch.setattr(scene.host, "present", recorded)
        await scene.interfaces.create("epair1", {"b": {"addresses": ["10.0.1.2/24"]}})
        scene.host.steps.clear()
        await scene.registry.check_all()
        assert "converge" not in scene.host.steps, "none has anything that a flap takes"
        await scene.registry.lacks()
        assert read == ["epair1b"]
        await routed(scene)
        scene.host.steps.clear()
        await scene.registry.check_all()
        assert scene.host.steps.count("converge") == 1


@on_loop
async def test_what_devices_lack() -> None:
    async with make_scene() as scene:
        link, before = await routed(scene)
        assert await scene.registry.lacks() == ()
        foreign = Address("10.9.0.1/24")
        link.settings = replace(before, addresses=(foreign,), routes=())
        assert await scene.registry.lacks() == (
            Restore("epair0a", ("10.0.0.1/24", "fd00::1/64"), ("default via 10.0.0.2",)),
        )
        link.settings = before
        link.flap(False)
        scene.host.report(scene.host.event("epair0a"))
        assert await scene.registry.lacks() == (), "it comes back with the device"
        scene.host.add_namespace("red")
        scene.host.report(scene.host.move("epair0a", "red"))
        link.settings = replace(before, addresses=(), routes=())
        assert await scene.registry.lacks() == (), "they are for the new owner to set"
        (half, _, _) = scene.registry.ifnets
        there = half.settings.model_copy(update={"netns": "red"})
        assert (await scene.registry.lacks({"epair0a": there}))[0].addresses == ("10.0.0.1/24",)
