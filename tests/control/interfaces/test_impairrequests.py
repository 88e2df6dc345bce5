"""Requests about impairments, on a machine without a kernel."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pytest

from epaird.control.interfaces.impairrequests import changed_tables
from epaird.control.operations import Refused
from epaird.ipc.impairment import LineSpec
from epaird.ipc.messages import PortSpec
from tests.control.interfaces.scene import Scene, make_scene
from tests.loop import on_loop
from tests.waiting import eventually


def ports(scene: Scene) -> dict[str, PortSpec]:
    """Return the ports that the worker has been given."""
    return {port.name: port for each in scene.worker.attachments.values() for port in each.spec.ports}


def line(scene: Scene, device: str) -> LineSpec:
    (found,) = ports(scene)[device].line
    return found


async def impair(
    scene: Scene, name: str, whole: bool = True, seconds: float | None = None, **keys: object
) -> None:
    await scene.interfaces.impair(name, keys, whole=whole, seconds=seconds)


def shown(scene: Scene, name: str) -> dict[str, Any]:
    return {each.device: each.impairment for each in scene.interfaces.impairment(name).directions}


@on_loop
async def test_a_half_or_both_directions_are_impaired_without_rewiring() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {})
        cable = scene.registry.pairs.half("epair0a").cable  # type: ignore[union-attr]
        await impair(scene, "epair0a", delay="0.1s", loss="1%")
        assert line(scene, "epair0a").parameters.delay_ns == 100_000_000
        assert ports(scene)["epair0b"].line == ()
        assert shown(scene, "epair0a") == {"epair0a": {"delay": "100ms", "loss": "1%"}}
        assert scene.interfaces.impairment("epair0a").round_trip == "adds 100ms to a round trip"
        await impair(scene, "epair0", whole=False, delay="20ms")
        assert shown(scene, "epair0") == {
            "epair0a": {"delay": "20ms", "loss": "1%"}, "epair0b": {"delay": "20ms"},
        }  # fmt: skip
        assert scene.interfaces.impairment("epair0").round_trip == "adds 40ms to a round trip"
        assert scene.registry.pairs.half("epair0b").cable is cable  # type: ignore[union-attr]
        attachment = scene.worker.attachments["epair0"]
        assert len(attachment.fds) == attachment.spec.descriptors == 4


@on_loop
async def test_a_random_seed_is_shown_and_kept_while_other_keys_change() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {})
        await impair(scene, "epair0", loss="1%")
        a, b = scene.interfaces.impairment("epair0").directions
        assert a.seed == b.seed is not None
        seeds = line(scene, "epair0a").seed, line(scene, "epair0b").seed
        assert seeds[0] != seeds[1], "each direction has a stream of its own"
        await impair(scene, "epair0", whole=False, delay="1ms")
        assert (line(scene, "epair0a").seed, line(scene, "epair0b").seed) == seeds
        await impair(scene, "epair0", whole=False, seed=7)
        assert [each.seed for each in scene.interfaces.impairment("epair0").directions] == [7, 7]
        applied = line(scene, "epair0a").applied_ns
        await scene.interfaces.change("epair0a", {"mtu": 1400})
        assert line(scene, "epair0a").applied_ns == applied, "its schedule goes on"


@on_loop
async def test_off_drains_and_the_slot_stays_until_the_half_is_destroyed() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {})
        await impair(scene, "epair0a", delay="1ms")
        slot = line(scene, "epair0a").slot
        await impair(scene, "epair0a")
        assert line(scene, "epair0a").draining
        half = scene.registry.pairs.half("epair0a")
        assert half is not None
        assert half.line is not None
        assert scene.worker.impairing.drained("epair0", 0) == "epair0a"
        half.line.drained()
        assert ports(scene)["epair0a"].line == half.line.specs == ()
        assert half.line.slot == slot
        await impair(scene, "epair0a", delay="2ms")
        assert line(scene, "epair0a").slot == slot
        await scene.interfaces.destroy("epair0")
        scene.slots.rested()
        assert scene.slots.take() <= slot, "its slot is free again"


def seeds(scene: Scene) -> list[int | None]:
    return [each.seed for each in scene.interfaces.impairment("epair0").directions]


@on_loop
async def test_after_an_impairment_was_removed_the_next_one_has_a_new_seed() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {})
        await impair(scene, "epair0", loss="1%", seed=7)
        assert seeds(scene) == [7, 7]
        await impair(scene, "epair0")
        assert seeds(scene) == [None, None]
        await impair(scene, "epair0a", loss="1%")
        first = seeds(scene)[0]
        assert first != 7
        await impair(scene, "epair0b", loss="1%")
        assert seeds(scene) == [first, first], "both directions have one"
        await impair(scene, "epair0a")
        await impair(scene, "epair0a", loss="1%", seed=8)
        assert seeds(scene) == [8, first]


@on_loop
async def test_a_change_that_fails_leaves_the_seed() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {"impair": {"loss": "1%", "seed": 7}})
        before = ports(scene)
        scene.host.free_descriptors = 0
        with pytest.raises(Refused, match="too many open files"):
            await scene.interfaces.impair("epair0", {"seed": 9, "trace": "x"}, whole=False)
        assert seeds(scene) == [7, 7]
        assert ports(scene) == before


@on_loop
async def test_a_half_is_not_impaired_without_a_descriptor_for_its_ring() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {})
        scene.host.free_descriptors = 0
        with pytest.raises(Refused, match="too many open files"):
            await impair(scene, "epair0a", loss="1%")
        assert shown(scene, "epair0a") == {"epair0a": {}}
        scene.host.free_descriptors = 1
        await impair(scene, "epair0a", loss="1%")
        scene.host.free_descriptors = 0
        await impair(scene, "epair0a", loss="2%")
        with pytest.raises(Refused, match="too many open files"):
            await scene.interfaces.replay("epair0a", [(1, 1)])


@on_loop
async def test_a_larger_buffer_has_a_larger_ring_and_a_smaller_one_the_same() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {"a": {"impair": {"delay": "1ms", "buffer": "1mb"}}})
        half = scene.registry.pairs.half("epair0a")
        assert half is not None
        assert half.line is not None
        sizes = []
        for buffer in ("64mb", "2mb", "128mb"):
            await impair(scene, "epair0a", whole=False, buffer=buffer)
            assert not half.line.is_small
            assert line(scene, "epair0a").buffer == half.line.buffer
            assert scene.worker.attachments["epair0"].fds[2] == half.line.files[0]
            sizes.append(os.fstat(half.line.files[0]).st_size)
        assert sizes[0] == sizes[1] < sizes[2]


@on_loop
async def test_a_pair_is_created_with_its_impairment() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {"impair": {"delay": "5ms"}, "b": {"impair": {"loss": "2%"}}})
        assert line(scene, "epair0a").parameters.delay_ns == 5_000_000
        assert line(scene, "epair0b").parameters.loss.p == pytest.approx(0.02)


@on_loop
async def test_all_queues_of_an_impaired_pair_have_one_line() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {"queues": 2, "impair": {"delay": "5ms"}})
        specs = [each.spec.ports[0] for name, each in scene.worker.attachments.items() if "epair0." in name]
        assert [each.slot for each in specs] == sorted({each.slot for each in specs})
        assert len({each.line[0].slot for each in specs}) == 1
        assert [each.line[0].queues for each in specs] == [2, 2]


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"delay": "100"}, "delay"),
        ({"rate": "1mbit", "trace": "x"}, "trace"),
        ({"preset": "moon"}, "moon"),
        ({"speed": "1%"}, "speed"),
    ],
)
@on_loop
async def test_a_bad_value_is_refused_and_changes_nothing(keys: Mapping[str, Any], problem: str) -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {})
        await impair(scene, "epair0", loss="1%")
        before = ports(scene)
        with pytest.raises(Refused, match=problem) as refusal:
            await scene.interfaces.impair("epair0a", keys, whole=True)
        assert "\n" not in str(refusal.value)
        assert ports(scene) == before
        assert shown(scene, "epair0") == {"epair0a": {"loss": "1%"}, "epair0b": {"loss": "1%"}}


@on_loop
async def test_a_missing_trace_is_refused_and_the_former_impairment_stays() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {})
        await impair(scene, "epair0", rate="1mbit")
        before = ports(scene)
        with pytest.raises(Refused, match=r"trace: nowhere\.up: no such file"):
            await impair(scene, "epair0a", trace="nowhere.up")
        assert ports(scene) == before


@on_loop
async def test_an_impairment_expires_and_the_former_one_comes_back() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {})
        await impair(scene, "epair0", loss="1%")
        await impair(scene, "epair0a", seconds=3600, loss="100%")
        left = scene.interfaces.impairment("epair0").expires_in
        assert left is not None
        assert 3590 < left <= 3600
        await impair(scene, "epair0a", seconds=0.001, delay="1s")
        await eventually(lambda: scene.interfaces.impairment("epair0").expires_in is None)
        await eventually(lambda: shown(scene, "epair0")["epair0a"] == {"loss": "1%"})
        assert shown(scene, "epair0")["epair0b"] == {"loss": "1%"}


@on_loop
async def test_a_lasting_change_cancels_the_expiry() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {})
        await impair(scene, "epair0a", seconds=3600, loss="100%")
        await impair(scene, "epair0a", whole=False, loss="50%")
        assert scene.interfaces.impairment("epair0a").expires_in is None
        with pytest.raises(Refused, match="for: 0 is not a time"):
            await impair(scene, "epair0a", seconds=0, loss="100%")


@on_loop
async def test_decisions_are_shown_and_repeated_of_one_half() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {})
        assert scene.interfaces.decisions("epair0a", 10) == []
        with pytest.raises(Refused, match="impair it first"):
            await scene.interfaces.replay("epair0a", [(1, 1)])
        await impair(scene, "epair0a", loss="1%")
        assert scene.interfaces.decisions("epair0a", 10) == []
        await scene.interfaces.replay("epair0a", [(1, 1)])
        assert line(scene, "epair0a").replay
        assert len(scene.worker.attachments["epair0"].fds) == 4
        with pytest.raises(Refused, match="epair0 is a pair: name one of its halves, epair0a or epair0b"):
            scene.interfaces.decisions("epair0", 10)


@on_loop
async def test_a_loopback_cannot_be_impaired() -> None:
    async with make_scene() as scene:
        with pytest.raises(Refused, match="lo0 is a loopback, which cannot be impaired"):
            await impair(scene, "lo0", loss="1%")


def both(pair: dict[str, Any], a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    return {"impair": pair, "a": {"impair": a}, "b": {"impair": b}}


def test_a_request_about_a_pair_wins_over_the_tables_of_its_halves() -> None:
    before = both({"delay": "1ms"}, {"delay": "2ms", "loss": "1%"}, {})
    assert changed_tables(before, None, {"delay": "3ms"}, whole=False) == both(
        {"delay": "3ms"}, {"loss": "1%"}, {}
    )
    assert changed_tables(before, None, {"loss": "3%"}, whole=True) == both({"loss": "3%"}, {}, {})
    assert changed_tables(before, None, {"delay": None}, whole=False) == both({}, {"loss": "1%"}, {})


def test_what_a_half_keeps_may_need_what_its_pair_has() -> None:
    before = both({"trace": "up"}, {"limit": "1kb"}, {})
    assert changed_tables(before, None, {"rate": "0bit"}, whole=False) == both(
        {"trace": "up", "rate": "0bit"}, {"limit": "1kb"}, {}
    )
    assert changed_tables(before, None, {"trace": ""}, whole=False) == both({"trace": ""}, {}, {})
