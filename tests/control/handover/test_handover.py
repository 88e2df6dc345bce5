"""The state and the descriptors for the next daemon, while this one runs and when it ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from epaird.config.reading import parse
from epaird.control.handover.handover import CLAIM, LOCK, Handover
from epaird.control.handover.notify import Notifier
from epaird.control.handover.predecessor import LEDGER
from epaird.control.handover.rundirectory import RunDirectory
from epaird.control.handover.state import STATE, State, read, read_memory_file
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
        assert [name for name, _ in found] == [LOCK, LEDGER, CLAIM, "epair0a", "epair0b", "lo0", STATE]
        for name, fd in found:
            if name in (LOCK, LEDGER, CLAIM, STATE):
                os.close(fd)
            else:
                assert fd in scene.host.links[name].tap.fds


def close_copies(passed: Iterable[tuple[str, int]]) -> None:
    """Close the descriptors that are copies; those of devices are not."""
    for name, fd in passed:
        if name in (LOCK, LEDGER, CLAIM, STATE):
            os.close(fd)


def known(directory: Path) -> list[str]:
    """Return the clones that a successor would know of."""
    found = read(directory)
    assert found is not None
    return sorted(clone.name for clone in found.clones)


@on_loop
async def test_a_committed_change_is_known_at_once(tmp_path: Path) -> None:
    async with leaving(tmp_path) as (scene, handover):
        handover.write()
        file = (tmp_path / "state.json").read_bytes()
        await scene.interfaces.create("epair1", {"a": {"mtu": 1400}})
        handover.commit(["epair1"])
        assert known(tmp_path) == ["epair0", "epair1", "lo0"]
        await scene.interfaces.change("epair1a", {"mtu": 1300})
        handover.commit(["epair1"])
        await scene.interfaces.destroy("epair0")
        handover.commit(["epair0"])
        found = read(tmp_path)
        assert found is not None
        (pair,) = found.pairs
        assert (pair.name, pair.settings.half("a").mtu) == ("epair1", 1300)
        assert list(found.withdrawn) == ["epair0"], "it is in the configuration"
        assert (tmp_path / "state.json").read_bytes() == file
        await scene.interfaces.create("epair0", {})
        handover.commit(["epair0"])
        found = read(tmp_path)
        assert found is not None
        assert not found.withdrawn
        handover.write()
        assert known(tmp_path) == ["epair0", "epair1", "lo0"]


@on_loop
async def test_the_state_is_passed_where_no_file_can_be_written(tmp_path: Path) -> None:
    async with leaving(tmp_path) as (scene, handover):
        handover.write()
        (tmp_path / "state.json.new").mkdir()
        await scene.interfaces.create("epair1", {})
        handover.write()
        assert known(tmp_path) == ["epair0", "lo0"]
        assert handover.problem == "Is a directory"
        assert handover.write_errors == 1
        assert handover.objection() is None
        passed = dict(handover.descriptors())
        found = read_memory_file(passed.pop(STATE))
        assert isinstance(found, State)
        assert sorted(clone.name for clone in found.clones) == ["epair0", "epair1", "lo0"]
        close_copies(passed.items())


@on_loop
async def test_the_service_manager_gets_the_devices_of_a_committed_change(tmp_path: Path) -> None:
    with ServiceManager(str(tmp_path / "notify")) as manager:
        async with leaving(tmp_path / "run", manager.address) as (scene, handover):
            handover.write()
            await scene.interfaces.create("epair1", {})
            handover.commit(["epair1"])
            manager.receive_all()
            assert {"epair0a", "epair1a", "epair1b"} < {name for name, _ in manager.unit.stored}


@on_loop
async def test_an_interface_that_json_cannot_express_hides_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with leaving(tmp_path) as (scene, handover):
        handover.write()
        await scene.interfaces.create("epair1", {})
        await scene.interfaces.create("epair2", {})
        for device in ("epair0a", "epair1a"):
            link = scene.host.links[device]
            link.place = replace(link.place, name="\udcff")
            scene.host.report(scene.host.event(device))
        caplog.clear()
        handover.write()
        handover.write()
        assert known(tmp_path) == ["epair0", "epair2", "lo0"]
        assert [line for line in caplog.messages if "its last known state" in line] == caplog.messages[:1]
        objection = handover.objection()
        assert objection is not None
        assert objection.startswith("the state cannot be passed on: ")
        passed = handover.descriptors()
        assert STATE not in dict(passed)
        close_copies(passed)
