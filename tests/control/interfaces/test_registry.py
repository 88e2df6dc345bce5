"""The registry: names, kinds and reports of workers."""

from __future__ import annotations

import asyncio

from tests.control.interfaces.scene import scene
from tests.loop import on_loop


@on_loop
async def test_a_queue_that_fills_and_drains_is_published() -> None:
    async with scene(real=True, queue_limit=4) as it:
        await it.interfaces.create("epair0", {})
        events = it.interfaces.events()
        a, b = (it.host.links[device].owner for device in ("epair0a", "epair0b"))
        while not it.worker.reading().oactive:
            a.sends_all_it_can()
            await asyncio.sleep(0.001)
        reading = it.one("epair0b")
        assert reading.held_bytes > 0
        assert reading.refs == 1 + 4
        event = await anext(events)
        assert (event.what, event.interface, event.detail) == (
            "overflow", "", "worker 0, found so by epair0a",
        )  # fmt: skip
        draining = asyncio.create_task(anext(events))
        while not draining.done():
            b.receives()
            await asyncio.sleep(0.001)
        assert (await draining).what == "drained"
        assert it.one("epair0b").held_bytes == 0
