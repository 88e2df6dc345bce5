"""Changes in place: all or none, on a machine whose every step can fail."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from epaird.config.settings import HalfSettings, PairSettings
from epaird.control.interfaces.ifnet import Half, Pair
from epaird.control.interfaces.inplace import refuse_fixed, with_notes
from epaird.control.operations import Refused
from epaird.kernel.errors import KernelError
from tests.control.interfaces.scene import make_scene
from tests.control.stage import IdleWorker, Stage, idle_stage
from tests.loop import on_loop

BOTH = {"addresses": ["10.0.0.1/24", "fd00::1/64"], "routes": [{"to": "default", "via": "10.0.0.2"}]}


@pytest.mark.parametrize("key", ["netns", "queues"])
def test_keys_that_cannot_be_changed_in_place_are_refused(key: str) -> None:
    refuse_fixed("epair0", {key: 1, "mtu": 1500}, {key: 1, "mtu": 9000})
    with pytest.raises(Refused, match=f"epair0: {key} cannot be changed in place: ") as refused:
        refuse_fixed("epair0", {key: 1}, {key: 2})
    assert refused.value.errno == errno.EINVAL


async def change(stage: Stage[IdleWorker], *halves: tuple[Pair, dict[str, object]]) -> None:
    """Change half a of pairs, all together."""
    changes = []
    for pair, keys in halves:
        a = HalfSettings.model_validate(pair.settings.a.model_dump() | keys)
        changes.append(stage.pairs.changing(pair, pair.settings.model_copy(update={"a": a})))
    await stage.in_place.apply(changes)


@on_loop
async def test_only_differences_are_applied_in_an_order_that_the_kernel_accepts() -> None:
    async with idle_stage() as stage:
        pair = await stage.make(a=BOTH)
        a = pair.halves[0]
        for keys, steps in (
            ({}, []),
            ({"mtu": 9000, "name": "eth7", "up": False}, ["set_mtu", "set_up", "set_name"]),
            ({"name": "eth8", "up": True}, ["set_name", "set_up"]),
        ):
            stage.host.steps.clear()
            await change(stage, (pair, keys))
            assert [each for each in stage.host.steps if each != "set_carrier"] == [*steps, "converge"]
        assert (a.mtu, a.up, a.place.name) == (9000, True, "eth8")
        link = stage.host.links["epair0a"].settings
        assert link is not None
        assert [each.address for each in link.addresses] == BOTH["addresses"]
        assert len(link.routes) == 1


@pytest.mark.parametrize("failing", ["set_mac", "set_mtu", "set_up", "set_name", "converge", "set_sndbuf"])
def test_a_failure_leaves_every_device_as_it_was(failing: str) -> None:
    async def fail() -> None:
        async with idle_stage() as stage:
            pairs = [await stage.make(name, a=BOTH) for name in ("epair0", "epair1")]
            before = [state(stage, pair.halves[0]) for pair in pairs]
            keys = {"mtu": 9000, "mac": "02:00:00:00:00:07", "up": False, "name": "eth7", "sndbuf": 65536}
            stage.host.fail(failing, errno.EPERM)
            with pytest.raises(KernelError) as error:
                await change(
                    stage, (pairs[0], {"mtu": 1400, "addresses": [], "routes": []}), (pairs[1], keys)
                )
            assert not getattr(error.value, "__notes__", ())
            assert [state(stage, pair.halves[0]) for pair in pairs] == before
            third = await stage.make("epair2", a={"mac": keys["mac"]})
            assert third.halves[0].mac == keys["mac"], "it is free again"

    on_loop(fail)()


def state(stage: Stage[IdleWorker], half: Half) -> tuple[object, ...]:
    link = stage.host.links[half.device]
    own = half.settings, half.mac, half.mtu, half.up, half.place, half.pair.settings
    return *own, link.settings, link.place, link.sndbuf or 2**31 - 1, link.carrier


@on_loop
async def test_what_cannot_be_undone_is_in_the_message() -> None:
    async with idle_stage() as stage:
        pair = await stage.make()
        stage.host.fail("converge", errno.EIO, times=2)
        with pytest.raises(KernelError) as error:
            await change(stage, (pair, {"up": False}))
        assert stage.host.steps.count("converge") == 2
        lines = with_notes(error.value)
        assert lines == "converge: Input/output error; not as before: converge: Input/output error"


@on_loop
async def test_what_others_replaced_stops_no_change_that_takes_nothing(
    warnings: Callable[[], list[str]],
) -> None:
    async with idle_stage() as stage:
        pair = await stage.make(a=BOTH)
        stage.host.fail("converge", errno.EEXIST)
        await change(stage, (pair, {"mtu": 1400}))
        assert pair.settings.a.mtu == 1400
        hint = "not restored; epairctl plan shows what is missing"
        assert warnings() == 2 * [f"converge: File exists: {hint}"], "once for each half"


@on_loop
async def test_a_mac_that_cannot_be_taken_back_is_known() -> None:
    async with idle_stage() as stage:
        pair = await stage.make()
        half = pair.halves[0]
        former = half.mac
        stage.host.fail("set_sndbuf", errno.EPERM)
        with pytest.raises(KernelError):
            await change(stage, (pair, {"mac": "02:00:00:00:00:07", "sndbuf": 65536}))
        assert half.mac == former
        link = stage.host.links["epair0a"].settings
        assert link is not None
        assert link.mac == former


@on_loop
async def test_a_requested_key_is_set_even_if_it_is_as_recorded() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {"a": BOTH})
        link = scene.host.links["epair0a"]
        link.flap(False)
        scene.host.report(scene.host.event("epair0a"))
        await scene.interfaces.change("epair0b", {"up": True})
        assert not link.statistics.up
        await scene.interfaces.change("epair0", {"b": {"mtu": 1400}, "up": True})
        assert link.statistics.up
        assert link.settings is not None
        assert [each.address for each in link.settings.addresses] == BOTH["addresses"]


@on_loop
async def test_addresses_are_left_to_the_owner_where_others_moved_a_device() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {"a": BOTH})
        scene.host.add_namespace("red")
        link = scene.host.links["epair0a"]
        assert link.settings is not None
        link.flap(False)
        link.settings = link.settings.__class__(mtu=1500, txqueuelen=10_000, up=False)
        scene.host.report(scene.host.move("epair0a", "red"), scene.host.event("epair0a"))
        await scene.interfaces.change("epair0a", {"mtu": 1400, "up": True})
        assert (link.settings.mtu, link.settings.addresses) == (1400, ())
        await scene.interfaces.change("epair0a", {"addresses": ["10.0.0.7/24"]})
        assert [each.address for each in link.settings.addresses] == ["10.0.0.7/24"]
        assert await scene.registry.lacks() == ()


@on_loop
async def test_an_interface_that_is_being_destroyed_is_not_changed() -> None:
    async with idle_stage() as stage:
        pair = await stage.make()
        pair.destroying = True
        with pytest.raises(KernelError, match="epair0 is being destroyed"):
            await stage.in_place.apply([stage.pairs.changing(pair, PairSettings(coalesce=False))])
        pair.destroying = False
