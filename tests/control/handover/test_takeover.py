"""Interfaces that are taken over from a daemon whose workers have died, on a machine without a kernel."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from epaird.control.handover.predecessor import Leftovers
from epaird.control.handover.state import SavedWorker, State
from epaird.control.handover.takeover import Takeover
from epaird.control.interfaces.registry import Registry
from epaird.ipc import counters
from epaird.kernel import tun
from epaird.kernel.errors import KernelError
from epaird.kernel.tun import Tap
from epaird.names.macpool import MacPool
from tests.control.handover.orphan import StartedWorker, started_worker
from tests.control.interfaces.scene import Scene, make_scene
from tests.loop import on_loop


@dataclass(slots=True)
class Successor:
    """The next daemon's registry, and what it has taken over."""

    registry: Registry
    worker: StartedWorker
    leftovers: Leftovers


async def succeed(scene: Scene, monkeypatch: pytest.MonkeyPatch, *, gone: str = "") -> Successor:
    """Take over the interfaces of a scene, except the device ``gone``."""

    def adopt(name: str, _index: int, fds: tuple[int, ...], _offloads: int, _missing: tuple[str, ...]) -> Tap:
        if name == gone:
            raise KernelError(errno.EBADFD, f"{name}: no device")
        for fd in fds:
            os.close(fd)
        return scene.host.links[name].tap

    monkeypatch.setattr(tun, "adopt", adopt)
    saved = {kind.cloner.name: tuple(kind.save(each, None) for each in kind) for kind in scene.registry.kinds}
    worker_before = SavedWorker(number=0, slot=scene.worker.slot, pid=7, restarts=3)
    state = State.of(home=(4, 5), macs_made=0, workers=(worker_before,), clones=saved)
    fds = {
        slot: os.dup(fd)
        for ifnet in scene.registry.ifnets
        for slot, fd in zip(ifnet.slots, ifnet.tap.fds, strict=True)
    }
    leftovers = Leftovers(state, fds=fds)
    worker = started_worker(scene)
    registry = Registry(scene.host, scene.table, scene.slots, [worker], MacPool(1), loopbacks=True)
    await Takeover(leftovers, scene.host, scene.table, scene.slots, [worker], registry).take_over()
    return Successor(registry, worker, leftovers)


@on_loop
async def test_interfaces_have_their_devices_peers_and_cables(
    monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    async with make_scene() as scene:
        for name in ("epair0", "epair1"):
            await scene.interfaces.create(name, {"b": {"mtu": 9000}})
        await scene.interfaces.patch("epair0a", "epair1b", force=True)
        scene.host.steps.clear()
        new = await succeed(scene, monkeypatch)
        assert set(scene.host.steps) <= {"statistics", "find"}
        assert [clone.name for clone in new.registry] == ["epair0", "epair1", "lo0"]
        assert [half.peer and half.peer.device for half in new.registry.pairs.ifnets] == [
            "epair1b", None, None, "epair0a",
        ]  # fmt: skip
        for before, after in zip(scene.registry.ifnets, new.registry.ifnets, strict=True):
            assert (after.tap, after.slots, after.mtu) == (before.tap, before.slots, before.mtu)
        assert new.worker.attachments == scene.worker.attachments
        assert new.worker.requests[0] == ("start",)
        assert new.worker.restarts == 3 + 1, "its process had died"
        assert new.leftovers.fds == {}
        assert warnings() == []


@on_loop
async def test_frames_in_the_hands_of_a_dead_worker_are_accounted_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {})
        a, b = (scene.table.slot(ifnet.slots[0]) for ifnet in scene.registry.pairs.ifnets)
        owner = scene.host.links["epair0a"].owner
        owner.sends(3)
        for _ in range(3):
            owner.take()
        a[counters.OPACKETS] = 2
        scene.host.links["epair0b"].owner.deliver(1)
        await succeed(scene, monkeypatch)
        assert (a[counters.OPACKETS], b[counters.IPACKETS]) == (3, 1)
        assert b[counters.IERRORS + counters.WORKER_LOST] == 2


@on_loop
async def test_a_device_that_is_gone_takes_its_pair_along(
    monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {})
        await scene.interfaces.create("epair1", {})
        await scene.interfaces.patch("epair0a", "epair1b", force=True)
        for device in ("epair0a", "epair0b"):
            scene.host.links[device].exists = False
        new = await succeed(scene, monkeypatch, gone="epair0b")
        assert warnings() == ["epair0: its device is gone: not taken over"]
        assert [clone.name for clone in new.registry] == ["epair1", "lo0"]
        assert [half.peer for half in new.registry.pairs.ifnets] == [None, None]
        assert set(new.worker.attachments) == {"epair1a", "epair1b", "lo0"}
        assert new.leftovers.fds == {}
        halves = {slot for half in scene.registry.pairs.ifnets[:2] for slot in half.slots}
        assert {scene.slots.take() for _ in range(3)} == {scene.worker.slot, *halves}


@on_loop
async def test_without_statistics_the_counted_frames_are_settled(
    monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    async with make_scene() as scene:
        scene.host.fail("statistics", times=1)
        new = await succeed(scene, monkeypatch)
        assert set(new.worker.attachments) == {"lo0"}
        assert warnings()[0].startswith(
            "the losses of workers that died are known in part only: statistics: "
        )
