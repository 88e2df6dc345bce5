"""Events, delivered to any number of readers."""

from __future__ import annotations

import asyncio
import gc
import weakref

from epaird.control.interfaces.events import EventBus
from tests.loop import on_loop, turns


@on_loop
async def test_every_reader_gets_every_event_in_order() -> None:
    bus = EventBus(now=lambda: 7.0)
    readers = [bus.read(), bus.read()]
    for number in range(5):
        bus.publish("up", f"epair{number}a", "more")
    for reader in readers:
        events = [await anext(reader) for _ in range(5)]
        assert [each.interface for each in events] == [f"epair{number}a" for number in range(5)]
        assert {(each.time, each.what, each.detail) for each in events} == {(7.0, "up", "more")}


@on_loop
async def test_a_reader_gets_events_from_its_creation_on_and_waits_for_them() -> None:
    bus = EventBus()
    bus.publish("created", "epair0a")
    reader = bus.read()
    waiting = asyncio.ensure_future(anext(reader))
    await turns()
    assert not waiting.done()
    bus.publish("destroyed", "epair0a")
    assert (await waiting).what == "destroyed"


@on_loop
async def test_a_slow_reader_loses_the_oldest_events_and_receives_their_number() -> None:
    bus = EventBus(capacity=3)
    slow, quick = bus.read(), bus.read()
    seen = []
    for number in range(10):
        bus.publish("up", str(number))
        seen.append((await anext(quick)).interface)
    assert seen == [str(number) for number in range(10)]
    events = [await anext(slow) for _ in range(4)]
    assert [(each.what, each.interface or each.detail) for each in events] == [
        ("lost", "7"), ("up", "7"), ("up", "8"), ("up", "9"),
    ]  # fmt: skip
    bus.publish("up", "10")
    assert (await anext(slow)).interface == "10"


@on_loop
async def test_a_closed_reader_ends() -> None:
    bus = EventBus()
    reader = bus.read()
    waiting = asyncio.ensure_future(anext(reader, None))
    await turns()
    await reader.aclose()
    assert await waiting is None
    bus.publish("up", "epair0a")
    assert [each async for each in reader] == []


@on_loop
async def test_a_reader_is_removed_with_its_last_reference() -> None:
    bus = EventBus()
    gone = weakref.ref(bus.read())
    gc.collect()
    assert gone() is None
    bus.publish("up", "epair0a")
