"""Halves that are patched, on a machine without a kernel."""

from __future__ import annotations

import asyncio
import errno

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
