"""Halves that are patched, on a machine without a kernel."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace

import pytest

from epaird.kernel.errors import KernelError
from tests.control.interfaces.scene import make_scene, refused
from tests.control.stage import IdleWorker
from tests.loop import on_loop


@on_loop
async def test_peers_stay_as_they_were_when_a_worker_refuses() -> None:
    async with make_scene() as scene:
        for name in ("epair0", "epair1"):
            await scene.interfaces.create(name, {})
        assert isinstance(scene.worker, IdleWorker)
        attach, attempts = scene.worker.attach, 0

        async def refuse_once(attachment: object) -> None:
            nonlocal attempts
            attempts += 1
            if attempts == 1:
                raise KernelError(errno.EMFILE, "too many")
            await attach(attachment)  # type: ignore[arg-type]

        scene.worker.attach = refuse_once  # type: ignore[method-assign]
        assert await refused(scene.interfaces.patch("epair0a", "epair1b", force=True)) == "EMFILE"
        scene.worker.attach = attach  # type: ignore[method-assign]
        assert [scene.one(each).peer for each in ("epair0a", "epair0b", "epair1a", "epair1b")] == [
            "epair0b", "epair0a", "epair1b", "epair1a",
        ]  # fmt: skip
        assert set(scene.worker.attachments) == {"lo0", "epair0", "epair1"}


@on_loop
async def test_the_cables_of_patched_and_unpatched_halves() -> None:
    async with make_scene() as scene:
        for name in ("epair0", "epair1"):
            await scene.interfaces.create(name, {})
        await scene.interfaces.patch("epair0a", "epair1b", force=True)
        kinds = {name: each.spec.kind for name, each in scene.worker.attachments.items()}
        assert kinds == {
            "lo0": "reflect", "epair0a-epair1b": "cable", "epair0b": "unplugged", "epair1a": "unplugged",
        }  # fmt: skip
        assert {name: scene.host.links[name].carrier for name in scene.devices() if name != "lo0"} == {
            "epair0a": True, "epair0b": False, "epair1a": False, "epair1b": True,
        }  # fmt: skip
        # Two pairs that are patched to each other are destroyed together.
        await asyncio.gather(*(scene.interfaces.destroy(name) for name in ("epair0", "epair1")))
        assert set(scene.worker.attachments) == {"lo0"}


@on_loop
async def test_a_half_without_offloads_gets_none_whatever_it_is_patched_to() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {"offload": False})
        await scene.interfaces.create("epair1", {})
        attachments = scene.worker.attachments

        def offloads() -> list[bool]:
            return [bool(scene.host.links[f"epair{name}"].tap.offloads) for name in ("0a", "0b", "1a", "1b")]

        def ports(cable: str) -> dict[str, bool]:
            return {port.name: port.offload for port in attachments[cable].spec.ports}

        assert offloads() == [False, False, True, True]
        assert attachments["epair1"].spec.coalesce
        await scene.interfaces.patch("epair1a", "epair0b", force=True)
        assert offloads() == [False, False, False, True]
        assert ports("epair0b-epair1a") == {"epair1a": True, "epair0b": False}
        assert not attachments["epair0b-epair1a"].spec.coalesce
        await scene.interfaces.patch("epair1a", "epair1b", force=True)
        assert offloads() == [False, False, True, True]
        assert ports("epair1") == {"epair1a": True, "epair1b": True}
        assert attachments["epair1"].spec.coalesce
        await scene.interfaces.patch("epair1a", "epair0b", force=True)
        await scene.interfaces.destroy("epair0")
        assert [bool(scene.host.links[name].tap.offloads) for name in ("epair1a", "epair1b")] == [True, True]


@on_loop
async def test_offloads_that_cannot_be_set_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {})
        scene.host.fail("set_offload", errno.EBADFD)
        await scene.interfaces.change("epair0", {"offload": False})
        assert not caplog.records, "the device is gone, which is reported elsewhere"
        await scene.interfaces.change("epair0", {"offload": True})
        scene.host.fail("set_offload", errno.EIO)
        await scene.interfaces.change("epair0", {"offload": False})
        assert [each.message.split(": ")[1] for each in caplog.records] == ["offloads"]


@on_loop
async def test_offloads_that_are_unknown_after_a_takeover_are_set_once() -> None:
    async with make_scene() as scene:
        for name, settings in (("epair0", {"offload": False}), ("epair1", {})):
            await scene.interfaces.create(name, settings)
        await scene.interfaces.patch("epair1a", "epair0b", force=True)
        for half in scene.registry.pairs.ifnets:
            half.offload_on = None
            scene.host.links[half.device].tap = half.tap = replace(half.tap, offloads=0x6F)
        scene.host.steps.clear()
        for _ in range(2):
            await scene.registry.check_all()
        assert scene.host.steps.count("set_offload") == 4
        assert {half.device: half.tap.offloads for half in scene.registry.pairs.ifnets} == {
            "epair0a": 0, "epair0b": 0, "epair1a": 0, "epair1b": 0x6F,
        }  # fmt: skip
