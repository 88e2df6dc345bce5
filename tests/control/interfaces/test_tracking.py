"""Changes of devices: reported once, and pairs destroyed or resized because of them."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from dataclasses import replace

import pytest

from epaird.control.interfaces import tracking
from epaird.kernel.watch import LinkEvent, LinkEventKind
from tests.control.stage import IdleWorker, Stage, idle_stage
from tests.loop import on_loop, turns
from tests.waiting import eventually


def gone(device: str) -> str:
    why = "the device is gone (it was deleted, or its namespace was)"
    return f"{device}: {why}: {device[:-1]} is taken down whole"


@on_loop
async def test_a_half_that_is_lost_while_the_pair_is_created_is_noticed(
    warnings: Callable[[], list[str]],
) -> None:
    async with idle_stage() as stage:
        held = stage.host.hold("configure")
        making = asyncio.create_task(stage.make())
        await eventually(held.reached.is_set)
        stage.host.report(stage.host.delete("epair0b"))
        held.released.set()
        await making
        await eventually(lambda: not len(stage.pairs))
        assert warnings() == [gone("epair0b")]
        assert not stage.left()


@pytest.mark.parametrize("side", ["a", "b"])
def test_no_half_of_a_pair_that_was_lost_at_once_is_tracked(side: str) -> None:
    async def lose() -> None:
        async with idle_stage() as stage:
            held = stage.host.hold("configure")
            making = asyncio.create_task(stage.make())
            await eventually(held.reached.is_set)
            stage.host.delete(f"epair0{side}")
            held.released.set()
            await making
            await eventually(lambda: not stage.left())
            stage.host.steps.clear()
            stage.tracker.check_all()
            assert "find" not in stage.host.steps

    on_loop(lose)()


@on_loop
async def test_a_rename_is_logged_once(warnings: Callable[[], list[str]]) -> None:
    async with idle_stage() as stage:
        await stage.make()
        link = stage.host.links["epair0a"]
        link.place = replace(link.place, name="uplink")
        event = stage.host.event("epair0a")
        stage.host.report(event, event)
        assert warnings() == ["epair0a: renamed from epair0a to uplink"]
        assert stage.reading("epair0a").name == "uplink"


@on_loop
async def test_a_move_is_logged_once_and_the_half_is_found_there(warnings: Callable[[], list[str]]) -> None:
    async with idle_stage() as stage:
        await stage.make()
        stage.host.add_namespace("red")
        left = stage.host.move("epair0a", "red", "eth7")
        stage.host.report(left, stage.host.event("epair0a"))
        assert warnings() == [
            "epair0a: moved from the daemon's own namespace to namespace red, "
            "where it is down and without addresses until its new owner configures it"
        ]
        reading = stage.reading("epair0a")
        assert (reading.netns, reading.name) == ("red", "eth7")
        stage.host.report(stage.host.delete("epair0a"))
        assert warnings() == [gone("epair0a")]
        await eventually(lambda: not stage.left())


@on_loop
async def test_a_deleted_half_takes_the_pair_down(warnings: Callable[[], list[str]]) -> None:
    async with idle_stage() as stage:
        await stage.make()
        stage.host.report(stage.host.delete("epair0b"))
        assert warnings() == [gone("epair0b")]
        await eventually(lambda: not stage.left())


@pytest.mark.parametrize("netns", ["red", None])
def test_both_halves_at_once_are_one_loss(netns: str | None, warnings: Callable[[], list[str]]) -> None:
    async def both() -> None:
        async with idle_stage() as stage:
            stage.host.add_namespace("red")
            await stage.make(a={"netns": netns}, b={"netns": netns})
            stage.host.report(stage.host.delete("epair0a"), stage.host.delete("epair0b"))
            stage.device_gone("epair0", "epair0a")
            stage.device_gone("epair0", "epair0b")
            assert warnings() == [gone("epair0a")]
            await eventually(lambda: not stage.left())
            assert stage.host.steps.count("close_taps") == 1
            assert warnings() == []

    on_loop(both)()


@on_loop
async def test_a_namespace_that_ends_takes_its_pairs_with_it_and_no_other(
    warnings: Callable[[], list[str]],
) -> None:
    async with idle_stage() as stage:
        stage.host.add_namespace("red")
        stage.host.add_namespace("blue")
        await stage.make("epair0", a={"netns": "red"}, b={"netns": "red"})
        await stage.make("epair1", a={"netns": "red"}, b={"netns": "blue"})
        await stage.make("epair2", a={"netns": "blue"})
        await stage.make("epair3")
        nsid = stage.host.links["epair0a"].place.nsid
        stage.host.end_namespace("red")
        stage.host.report(LinkEvent(LinkEventKind.NAMESPACE_GONE, nsid))
        assert warnings() == [gone("epair0a"), gone("epair1a")]
        await eventually(lambda: [pair.name for pair in stage.pairs] == ["epair2", "epair3"])


@on_loop
async def test_an_id_that_another_namespace_has_now_is_no_loss(warnings: Callable[[], list[str]]) -> None:
    """The kernel gives the id of a namespace that ended to the next one, before its end is noticed."""
    async with idle_stage() as stage:
        stage.host.add_namespace("red")
        await stage.make(a={"netns": "red"})
        half = stage.pairs.half("epair0a")
        assert half is not None
        nsid = half.place.nsid
        old = replace(stage.host.event("epair0a", mtu=9000), up=False)
        stage.host.report(old, LinkEvent(LinkEventKind.NAMESPACE_GONE, nsid))
        assert (half.mtu, half.up) == (1500, True), "the events of the old namespace are forgotten"
        assert warnings() == []
        assert len(stage.pairs) == 1


@on_loop
async def test_a_namespace_of_ours_that_lost_its_name_is_lost(warnings: Callable[[], list[str]]) -> None:
    async with idle_stage() as stage:
        identity = stage.host.add_namespace("red")
        await stage.make("epair0", a={"netns": "red"})
        await stage.make("epair1")
        stage.host.report(LinkEvent(LinkEventKind.NAME_GONE, identity=identity))
        assert warnings() == [gone("epair0a")]
        await eventually(lambda: [pair.name for pair in stage.pairs] == ["epair1"])


@on_loop
async def test_a_device_that_came_back_has_the_index_that_it_has_now() -> None:
    async with idle_stage() as stage:
        await stage.make()
        left = stage.host.event("epair0a", LinkEventKind.DELETED)
        link = stage.host.links["epair0a"]
        link.place = replace(link.place, index=link.place.index + 100)
        stage.host.report(left)
        half = stage.pairs.half("epair0a")
        assert half is not None
        assert half.place == link.place


@on_loop
async def test_a_report_of_a_worker_alone_is_enough(warnings: Callable[[], list[str]]) -> None:
    async with idle_stage(2) as stage:
        await stage.make("epair0", queues=2)
        await stage.make("epair1")
        stage.device_gone("epair0.1", "epair0b")
        stage.device_gone("epair7", "epair7b")
        stage.host.report(stage.host.delete("epair0b"))
        assert warnings() == [gone("epair0b")]
        await eventually(lambda: [pair.name for pair in stage.pairs] == ["epair1"])
        stage.device_gone("epair0.0", "epair0a")
        assert warnings() == []


@on_loop
async def test_events_of_other_devices_are_ignored(warnings: Callable[[], list[str]]) -> None:
    async with idle_stage() as stage:
        stage.host.add_namespace("red")
        await stage.make(a={"netns": "red"})
        a, b = (stage.host.links[device].place for device in ("epair0a", "epair0b"))
        stage.host.steps.clear()
        stage.host.report(
            LinkEvent(LinkEventKind.NEW, None, 999, "eth0", mtu=1300),
            LinkEvent(LinkEventKind.DELETED, None, a.index, "eth0"),
            LinkEvent(LinkEventKind.DELETED, a.nsid, b.index, "eth0"),
            LinkEvent(LinkEventKind.DELETED, 77, a.index, "eth0"),
            LinkEvent(LinkEventKind.NAMESPACE_GONE, 77),
        )
        assert stage.host.steps == []
        assert warnings() == []
        assert len(stage.pairs) == 1


@on_loop
async def test_a_new_mtu_resizes_every_cable_of_the_pair(warnings: Callable[[], list[str]]) -> None:
    async with idle_stage(2) as stage:
        await stage.make(queues=2)
        event = stage.host.event("epair0b", mtu=9000)
        stage.host.report(event, event, stage.host.event("epair0a", mtu=1500))
        resizes = [("resize", f"epair0.{queue}", (1500, 9000)) for queue in (0, 1)]
        await eventually(lambda: sorted(_requests(stage, "resize")) == resizes)
        assert warnings() == []


@on_loop
async def test_an_event_that_is_not_about_the_mtu_changes_none() -> None:
    async with idle_stage() as stage:
        await stage.make()
        place = stage.host.links["epair0a"].place
        stage.host.report(LinkEvent(LinkEventKind.NEW, place.nsid, place.index, place.name))
        await turns()
        assert not _requests(stage, "resize")


@on_loop
async def test_a_half_that_cannot_be_looked_up_stays(warnings: Callable[[], list[str]]) -> None:
    async with idle_stage() as stage:
        await stage.make()
        stage.host.fail("find", errno.ENFILE)
        stage.host.report(stage.host.event("epair0a"))
        assert warnings() == ["epair0a: find: Too many open files in system"]
        assert len(stage.pairs) == 1


@on_loop
async def test_after_an_overrun_every_interface_is_checked(warnings: Callable[[], list[str]]) -> None:
    async with idle_stage() as stage:
        stage.host.add_namespace("red")
        for number in range(4):
            await stage.make(f"epair{number}")
        stage.host.delete("epair0a")
        stage.host.move("epair1b", "red")
        changed = stage.host.links["epair2a"]
        changed.statistics = replace(changed.statistics, mtu=1280)
        stage.host.report(LinkEvent(LinkEventKind.OVERRUN))
        assert warnings() == [
            "the kernel has dropped link events: checking every interface",
            gone("epair0a"),
            "epair1b: moved from the daemon's own namespace to namespace red, "
            "where it is down and without addresses until its new owner configures it",
        ]
        await eventually(lambda: ("resize", "epair2", (1280, 1500)) in stage.workers[0].requests)
        await eventually(lambda: [pair.name for pair in stage.pairs] == ["epair1", "epair2", "epair3"])


@on_loop
async def test_an_overrun_while_statistics_fail_is_survived(warnings: Callable[[], list[str]]) -> None:
    async with idle_stage() as stage:
        await stage.make()
        stage.host.fail("statistics")
        stage.host.report(LinkEvent(LinkEventKind.OVERRUN))
        assert warnings()[1:] == ["statistics: Input/output error"]
        assert len(stage.pairs) == 1


def _requests(stage: Stage[IdleWorker], kind: str) -> list[tuple[object, ...]]:
    return [request for worker in stage.workers for request in worker.requests if request[0] == kind]


@on_loop
async def test_other_namespaces_are_polled_without_events_and_that_is_logged_once(
    warnings: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "POLL_S", 0.001)
    monkeypatch.setattr(tracking, "missing_optional", lambda: ["a capability is missing"])
    async with idle_stage() as stage:
        pair = await stage.make()
        polling = asyncio.create_task(stage.tracker.poll_namespaces())
        home, away = (stage.host.links[half.device] for half in pair.halves)
        await turns()
        assert not warnings()  # no interface is in another namespace
        stage.host.add_namespace("red")
        stage.host.report(stage.host.move("epair0b", "red"))
        warnings()
        for link in (home, away):
            link.statistics = replace(link.statistics, mtu=1280)
        await eventually(lambda: pair.halves[1].mtu == 1280)
        assert pair.halves[0].mtu == 1500  # the kernel reports events there
        away.place = replace(away.place, name="eth7")
        await eventually(lambda: pair.halves[1].place.name == "eth7")
        stage.host.delete("epair0b")
        await eventually(lambda: not len(stage.pairs))
        polling.cancel()
        assert warnings() == [
            "a capability is missing",
            "epair0b: renamed from epair0b to eth7",
            gone("epair0b"),
        ]
