"""Changes of one device are handled at a limited rate; none is lost, and no other device waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from epaird.control.interfaces import pacing
from epaird.control.interfaces.ifnet import Half
from epaird.control.tokenbucket import Rate
from epaird.kernel.watch import LinkEventKind
from tests.control.interfaces.scene import Scene, make_scene
from tests.control.stage import IdleWorker, Stage, idle_stage
from tests.loop import on_loop, turns
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "RATE", Rate(burst=3, per_s=20))
    monkeypatch.setattr(pacing, "REPORT_S", 0.2)


def rename(stage: Stage[IdleWorker], device: str, name: str) -> None:
    link = stage.host.links[device]
    link.place = replace(link.place, name=name)
    stage.host.report(stage.host.event(device))


def renamed_often(stage: Stage[IdleWorker]) -> Half:
    """Rename a half so often that its last name, eth49, waits for its turn; return the half."""
    half = stage.pairs.half("epair0a")
    assert half is not None
    for number in range(50):
        rename(stage, "epair0a", f"eth{number}")
    return half


@on_loop
async def test_the_last_of_many_changes_wins_and_the_others_are_counted(
    warnings: Callable[[], list[str]],
) -> None:
    async with idle_stage() as stage:
        await stage.make()
        for number in range(1000):
            rename(stage, "epair0a", f"eth{number}")
        before = warnings()
        assert before == [
            f"epair0a: renamed from {old} to {new}"
            for old, new in (("epair0a", "eth0"), ("eth0", "eth1"), ("eth1", "eth2"))
        ]
        half = stage.pairs.half("epair0a")
        assert half is not None
        await eventually(lambda: half.place.name == "eth999")
        assert warnings() == ["epair0a: renamed from eth2 to eth999"]
        assert await eventually(warnings) == ["epair0a: 996 more changes in the last 0 s were not logged"]
        await asyncio.sleep(2 * pacing.REPORT_S)
        assert not warnings(), "there is nothing to report any more"


@on_loop
async def test_no_other_device_waits(warnings: Callable[[], list[str]]) -> None:
    async with idle_stage() as stage:
        await stage.make()
        for number in range(50):
            rename(stage, "epair0a", f"eth{number}")
        warnings()
        rename(stage, "epair0b", "uplink")
        assert warnings() == ["epair0b: renamed from epair0b to uplink"]


@on_loop
async def test_a_device_that_is_lost_is_lost_in_time_and_its_changes_are_reported(
    warnings: Callable[[], list[str]],
) -> None:
    async with idle_stage() as stage:
        await stage.make()
        for number in range(50):
            rename(stage, "epair0a", f"eth{number}")
        warnings()
        stage.host.report(stage.host.delete("epair0a"))
        await eventually(lambda: not stage.left())
        assert warnings() == [
            "epair0a: 47 more changes in the last 0 s were not logged",
            "epair0a: the device is gone (it was deleted, or its namespace was): epair0 is taken down whole",
        ]
        await turns()


async def routed(scene: Scene) -> None:
    await scene.interfaces.create(
        "epair0", {"a": {"addresses": ["fd00::1/64"], "routes": [{"to": "fd01::/64", "via": "fd00::2"}]}}
    )


@on_loop
async def test_what_a_flap_removed_is_restored_when_the_flap_was_merged() -> None:
    async with make_scene() as scene:
        await routed(scene)
        link = scene.host.links["epair0a"]
        before = link.settings
        for number in range(10):
            link.place = replace(link.place, name=f"eth{number}")
            scene.host.report(scene.host.event("epair0a"))
        link.flap(False)
        down = scene.host.event("epair0a")
        link.flap(True)
        assert link.settings != before
        scene.host.report(down, scene.host.event("epair0a"))
        await eventually(lambda: link.settings == before)


@on_loop
async def test_a_move_that_was_merged_is_followed_with_the_state_there(
    warnings: Callable[[], list[str]],
) -> None:
    async with idle_stage() as stage:
        stage.host.add_namespace("red")
        await stage.make()
        half = stage.pairs.half("epair0a")
        assert half is not None
        for number in range(10):
            rename(stage, "epair0a", f"eth{number}")
        left = stage.host.move("epair0a", "red", "eth7")
        link = stage.host.links["epair0a"]
        link.statistics = replace(link.statistics, mtu=1300, up=False, lower_up=False)
        assert left.kind is LinkEventKind.DELETED
        stage.host.report(left)  # the events of the new place were skipped: nobody knew of it
        await eventually(lambda: half.place.netns == "red")
        assert (half.mtu, half.up) == (1300, False)
        assert any("moved from" in line for line in warnings())


@on_loop
async def test_a_change_that_waited_does_not_bring_back_what_was_changed_since() -> None:
    """The half gets another MTU after the event was reported and before it is handled."""
    async with idle_stage() as stage:
        await stage.make()
        half = renamed_often(stage)
        await stage.host.set_property(half.tap, half.place, "mtu", 1400)
        half.mtu = 1400
        await eventually(lambda: half.place.name == "eth49")
        assert half.mtu == 1400


@on_loop
async def test_what_a_device_was_in_between_is_not_forgotten() -> None:
    """The kernel has removed its addresses with it, so they are given to it again."""
    async with idle_stage() as stage:
        await stage.make()
        half = renamed_often(stage)
        stage.host.report(replace(stage.host.event("epair0a"), up=False))
        stage.host.report(stage.host.event("epair0a"))
        stage.host.steps.clear()
        await eventually(lambda: half.place.name == "eth49")
        await eventually(lambda: "converge" in stage.host.steps)
