"""The order in which an interface is removed."""

from __future__ import annotations

import asyncio

import pytest

from epaird.control.interfaces import unregister
from tests.control.interfaces.scene import make_scene, refused
from tests.control.stage import IdleWorker
from tests.loop import on_loop
from tests.waiting import eventually


@on_loop
async def test_the_order_of_unregistering() -> None:
    async with make_scene() as scene:
        assert isinstance(scene.worker, IdleWorker)
        await scene.interfaces.create("epair0", {})
        events = scene.interfaces.events()
        scene.worker.detaching.clear()
        destroying = asyncio.create_task(scene.interfaces.destroy("epair0"))
        await eventually(lambda: "epair0" not in scene.worker.attachments)
        assert "epair0a" in scene.host.links
        assert await refused(scene.interfaces.destroy("epair0b")) == "EBUSY"
        scene.worker.detaching.set()
        await destroying
        published = [(await anext(events)).what for _ in range(4)]
        assert published == ["unregistering", "unregistering", "destroyed", "destroyed"]


@on_loop
async def test_remaining_references_are_logged_repeatedly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("CLOSING_S", "SILENT_S", "REPEAT_S"):
        monkeypatch.setattr(unregister, name, 0.02)
    async with make_scene() as scene:
        assert isinstance(scene.worker, IdleWorker)
        await scene.interfaces.create("lo1", {})
        scene.worker.detaching.clear()
        destroying = asyncio.create_task(scene.interfaces.destroy("lo1"))
        line = "waiting for lo1 to become free. Usage count = 2"
        await eventually(lambda: caplog.messages.count(line) >= 3)
        # The device is destroyed, and the name is not free yet.
        assert "lo1" not in scene.host.links
        assert await refused(scene.interfaces.create("lo1", {})) == "EEXIST"
        scene.worker.detaching.set()
        await destroying
        await scene.interfaces.create("lo1", {})
