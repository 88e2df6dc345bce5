"""Pauses of cables, and corrections of their counters."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from epaird.ipc import counters
from epaird.ipc.counters import IERRORS, IPACKETS, LISTED, OPACKETS
from epaird.ipc.messages import (
    Amend,
)
from epaird.ipc.settlement import Correction
from tests.dataplane.conftest import frame
from tests.dataplane.control import receives, worker
from tests.loop import on_loop, turns
from tests.waiting import eventually


@on_loop
async def test_a_paused_cable_is_neither_read_nor_written_and_continues_on_request() -> None:
    async with worker(queue_limit=2) as control:
        control.attach()
        control.attach("epair1")
        a, b = control.owners["epair0a"], control.owners["epair0b"]
        while not control.words(1)[LISTED]:
            with suppress(BlockingIOError):
                a.sends(frame())
            await asyncio.sleep(0)
        await control.answered(control.pause())
        assert not control.words(1)[LISTED]
        at_rest = [bytes(control.words(slot)) for slot in (1, 2)]
        b.sends(frame(b"back"))
        arrived = b.receives()
        control.owners["epair1a"].sends(frame())
        await eventually(lambda: control.owners["epair1b"].receives())
        await turns(20)
        assert [bytes(control.words(slot)) for slot in (1, 2)] == at_rest
        assert b.receives() == []
        await control.answered(control.proceed())
        assert frame(b"back") in await receives(a, 1)
        arrived += await receives(b, control.words(1)[OPACKETS] - len(arrived))
        await control.answered(control.proceed(), "epair0 is not paused")


@on_loop
async def test_a_pause_ends_by_itself_and_with_the_cable() -> None:
    async with worker() as control:
        control.attach()
        await control.answered(control.pause(seconds=0.005))
        control.owners["epair0a"].sends(frame())
        await eventually(lambda: control.owners["epair0b"].receives())
        await control.answered(control.proceed(), "epair0 is not paused")
        await control.answered(control.pause())
        await control.answered(control.pause())
        await control.answered(control.detach())
        await control.answered(control.proceed(), "epair0 is not paused")
        await control.answered(control.pause(), "epair0 is not attached")


@on_loop
async def test_a_cable_that_is_being_detached_is_not_paused() -> None:
    async with worker() as control:
        control.attach()
        await control.fill()
        request = control.detach()
        await control.answered(control.pause(), "epair0 is being detached")
        control.owners["epair0b"].receives()
        await control.answered(request)


@on_loop
async def test_what_dead_processes_left_uncounted_is_added() -> None:
    async with worker() as control:
        control.attach()
        there, back = Correction(9, 0, 7, 1, 3, 2), Correction(dropped=4)
        request = Amend(77, "epair0", (there, back))
        control.worker.handle(request, [])
        await control.answered(77)
        a, b = control.words(1), control.words(2)
        joined = (b[counters.COALESCED_SUPERFRAMES], b[counters.COALESCED_DATAGRAMS])
        assert (a[OPACKETS], b[IPACKETS], joined) == (9, 7, (1, 3))
        assert b[IERRORS + counters.WORKER_LOST] == 2
        assert b[counters.OERRORS + counters.WORKER_LOST] == 4


@on_loop
async def test_a_second_pause_replaces_the_first() -> None:
    async with worker() as control:
        control.attach()
        await control.answered(control.pause(seconds=0.005))
        await control.answered(control.pause(seconds=3600))
        expired = asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, expired.set)
        await expired.wait()  # the first one would have ended by now
        await control.answered(control.proceed())


@on_loop
async def test_a_correction_of_fewer_ports_leaves_the_others_as_they_are() -> None:
    async with worker() as control:
        control.attach()
        control.worker.handle(Amend(77, "epair0", (Correction(9, 0, 7),)), [])
        control.worker.handle(Amend(78, "epair0"), [])
        await control.answered(77)
        await control.answered(78)
        assert (control.words(1)[OPACKETS], control.words(2)[OPACKETS]) == (9, 0)
