"""The state and the descriptors for the next daemon, while this one runs and when it ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from epaird.config.reading import parse
from epaird.control.handover.handover import CLAIM, LOCK, Handover
from epaird.control.handover.notify import Notifier
from epaird.control.handover.predecessor import LEDGER
from epaird.control.handover.rundirectory import RunDirectory
from epaird.control.handover.state import read
from epaird.control.reloading.inforce import ConfigurationInForce
from epaird.names.macpool import MacPool
from tests.control.interfaces.scene import Scene, make_scene
from tests.deploy.manager import ServiceManager
from tests.loop import on_loop
from tests.waiting import eventually

IN_FORCE = {"lo": {"lo0": {"mtu": 1400}}, "epair": {"epair0": {}}}


@asynccontextmanager
async def leaving(run: Path, address: str | None = None) -> AsyncIterator[tuple[Scene, Handover]]:
    """Provide a pair and its handover."""
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {})
        directory = RunDirectory(run)
        handover = Handover(
            directory,
            scene.host,
            scene.table,
            scene.slots,
            MacPool(1, 3),
            [scene.worker],
            scene.registry,
            Notifier(address),
            ConfigurationInForce(parse(IN_FORCE)),
        )
        yield scene, handover
        directory.release()


@on_loop
async def test_the_state_has_every_interface_and_its_configured_settings(tmp_path: Path) -> None:
    async with leaving(tmp_path) as (scene, handover):
        handover.write()
        found = read(tmp_path)
        assert found is not None
        assert (found.macs_made, found.home) == (3, tuple(scene.host.home))
        assert [clone.name for clone in found.clones] == ["epair0", "lo0"]
        pair, lo = found.clones
        assert pair.said is None
        assert lo.said is not None
        assert (lo.said.model_dump()["mtu"], lo.settings.model_dump()["mtu"]) == (1400, 33624)
        scene.registry.bus.on_change = handover.changed
        await scene.interfaces.create("epair1", {})
        await eventually(lambda: (again := read(tmp_path)) is not None and len(again.pairs) == 2)
        handover.end(keep=True)
        assert read(tmp_path) is not None
        handover.end(keep=False)
        assert read(tmp_path) is None


@on_loop
async def test_an_interface_that_is_being_destroyed_is_not_handed_over(tmp_path: Path) -> None:
    async with leaving(tmp_path) as (scene, handover):
        scene.worker.detaching.clear()  # type: ignore[attr-defined]
        destroying = asyncio.create_task(scene.interfaces.destroy("epair0"))
        await eventually(lambda: "epair0" not in scene.worker.attachments)
        handover.write()
        found = read(tmp_path)
        assert found is not None
        assert [clone.name for clone in found.clones] == ["lo0"]
        scene.worker.detaching.set()  # type: ignore[attr-defined]
        await destroying


@on_loop
async def test_the_service_manager_keeps_the_ledger_and_the_devices(tmp_path: Path) -> None:
    with ServiceManager(str(tmp_path / "notify")) as manager:
        async with leaving(tmp_path / "run", manager.address) as (_, handover):
            handover.write()
            manager.receive_all()
            assert sorted(name for name, _ in manager.unit.stored) == ["epair0a", "epair0b", LEDGER, "lo0"]
            handover.disown(["epair0b"])
            handover.end(keep=False)
            manager.receive_all()
            assert not manager.unit.stored


@on_loop
async def test_descriptors_that_are_closed_before_execve_are_copied(tmp_path: Path) -> None:
    async with leaving(tmp_path) as (scene, handover):
        found = handover.descriptors()
        assert [name for name, _ in found] == [LOCK, LEDGER, CLAIM, "epair0a", "epair0b", "lo0"]
        for name, fd in found:
            if name in (LOCK, LEDGER, CLAIM):
                os.close(fd)
            else:
                assert fd in scene.host.links[name].tap.fds
