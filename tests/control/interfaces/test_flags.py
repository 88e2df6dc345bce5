"""The record of devices that are down for their workers, and the bound of those that are up."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace

import pytest

from epaird.config.settings import HalfSettings, LoopbackSettings
from epaird.control.interfaces.flags import UNBOUNDED, sndbuf
from epaird.ipc.counters import DOWN
from tests.control.stage import IdleWorker, Stage, idle_stage
from tests.loop import on_loop


def set_up(stage: Stage[IdleWorker], device: str, *, up: bool) -> None:
    """Set a device up or down, as its owner does, and report it."""
    link = stage.host.links[device]
    link.statistics = replace(link.statistics, up=up)
    stage.host.report(stage.host.event(device))


@pytest.mark.parametrize(
    ("settings", "up", "expected"),
    [
        (HalfSettings(sndbuf=70000), True, 70000),
        (HalfSettings(sndbuf=70000), False, UNBOUNDED),
        (HalfSettings(), True, UNBOUNDED),
        (LoopbackSettings(), True, UNBOUNDED),
    ],
)
def test_only_a_device_that_is_up_has_a_bound(
    settings: HalfSettings | LoopbackSettings, up: bool, expected: int
) -> None:
    assert sndbuf(settings, up=up) == expected


@on_loop
async def test_a_half_is_recorded_as_down_in_the_slot_of_each_queue() -> None:
    async with idle_stage(2) as stage:
        pair = await stage.make(queues=2)
        slots = [stage.table.slot(slot) for slot in pair.halves[0].slots]
        for up in (False, True, False):
            set_up(stage, "epair0a", up=up)
            assert [words[DOWN] for words in slots] == [not up] * 2
        assert not any(stage.table.slot(slot)[DOWN] for slot in pair.halves[1].slots)


@on_loop
async def test_a_half_that_is_created_down_is_recorded() -> None:
    async with idle_stage() as stage:
        await stage.make(a={"up": False})
        assert (stage.words("epair0a")[DOWN], stage.words("epair0b")[DOWN]) == (1, 0)


@on_loop
async def test_a_missed_event_is_made_up_for() -> None:
    async with idle_stage() as stage:
        await stage.make()
        link = stage.host.links["epair0a"]
        link.statistics = replace(link.statistics, up=False)
        stage.tracker.check_all()
        assert stage.words("epair0a")[DOWN] == 1


@on_loop
async def test_the_bound_goes_before_the_record_is_made_and_returns_after_it() -> None:
    async with idle_stage() as stage:
        await stage.make(a={"sndbuf": 70000})
        words, link = stage.words("epair0a"), stage.host.links["epair0a"]
        recorded: list[int] = []
        stage.host.on_sndbuf = lambda: recorded.append(words[DOWN])
        assert link.sndbuf == 70000
        set_up(stage, "epair0a", up=False)
        assert (link.sndbuf, words[DOWN]) == (UNBOUNDED, 1)
        set_up(stage, "epair0a", up=True)
        assert (link.sndbuf, words[DOWN]) == (70000, 0)
        assert recorded == [0, 0]


@on_loop
async def test_a_bound_that_cannot_be_set_is_logged_unless_the_device_is_gone(
    warnings: Callable[[], list[str]],
) -> None:
    async with idle_stage() as stage:
        await stage.make(a={"sndbuf": 70000})
        stage.host.fail("set_sndbuf", errno.EBADFD)
        set_up(stage, "epair0a", up=False)
        assert not warnings()
        stage.host.fail("set_sndbuf", errno.EPERM)
        set_up(stage, "epair0a", up=True)
        assert [line.partition(":")[0] for line in warnings()] == ["epair0a"]
        assert stage.words("epair0a")[DOWN] == 0
