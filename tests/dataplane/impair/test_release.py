"""Release to a receiver that takes nothing for a while."""

from __future__ import annotations

import os
import socket
from contextlib import closing, suppress

from epaird.dataplane.impair.release import Release
from epaird.ipc.counters import (
    COALESCED_SUPERFRAMES,
    ESEGMENTS,
    FULL,
    HELD_FRAMES,
    IERRORS,
    IPACKETS,
    ISEGMENTS,
    OACTIVE,
    OPACKETS,
    OSEGMENTS,
    QUEUE_FRAMES,
    REASONS_MAX,
    REORDERED,
    WRITE_ERROR,
)
from epaird.ipc.ring import Ring
from epaird.ipc.ringfile import LATE_SUM, create
from tests.dataplane.conftest import frame, numbered
from tests.dataplane.control import receives
from tests.dataplane.datagrams import Datagram
from tests.dataplane.impair.loop import MS, Impaired, impaired, on_wire
from tests.dataplane.superframes import Offloaded
from tests.loop import on_loop, turns
from tests.waiting import eventually


@on_loop
async def test_a_receiver_without_room_blocks_the_line_and_loses_nothing() -> None:
    async with impaired() as cable:
        words = cable.control.words
        await cable.attach(cable.spec(delay_ns=MS, buffer=30_000))
        sent = 0
        while not words(1)[OACTIVE]:
            with suppress(BlockingIOError):
                cable.a.sends(frame(sent.to_bytes(4)))
                sent += 1
            await turns()
        assert words(3)[HELD_FRAMES]
        assert not words(3)[FULL], "the receiver takes nothing"
        assert words(0)[QUEUE_FRAMES] == 0
        assert await receives(cable.b, sent) == [frame(number.to_bytes(4)) for number in range(sent)]
        await eventually(lambda: not words(1)[OACTIVE])
        assert words(1)[OPACKETS] == words(2)[IPACKETS] == sent


@on_loop
async def test_frames_that_waited_before_there_was_a_line_go_first() -> None:
    async with impaired() as cable:
        words = cable.control.words
        await cable.attach(None)
        sent = 0
        while not words(0)[QUEUE_FRAMES]:
            with suppress(BlockingIOError):
                cable.a.sends(frame(sent.to_bytes(4)))
                sent += 1
            await turns()
        await cable.impair(cable.spec())
        for _ in range(5):
            cable.a.sends(frame(sent.to_bytes(4)))
            sent += 1
        await eventually(lambda: words(3)[HELD_FRAMES] > 0)
        assert await receives(cable.b, sent) == [frame(number.to_bytes(4)) for number in range(sent)]


@on_loop
async def test_what_cannot_overtake_a_full_receiver_keeps_its_place() -> None:
    async with impaired() as cable:
        words = cable.control.words
        await cable.attach(cable.spec(reorder=1.0))
        sent = 0
        while not words(3)[HELD_FRAMES]:
            with suppress(BlockingIOError):
                cable.a.sends(frame(sent.to_bytes(4)))
                sent += 1
            await turns()
        await turns(20)
        assert 0 < words(3)[REORDERED] < sent
        assert await receives(cable.b, sent) == [frame(number.to_bytes(4)) for number in range(sent)]


def refuse_long_frames(cable: Impaired) -> None:
    """Have the receiver's device refuse frames of more than some kilobytes."""
    cable.b.device.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


@on_loop
async def test_joined_datagrams_that_are_refused_are_delivered_singly() -> None:
    async with impaired() as cable:
        words = cable.control.words
        refuse_long_frames(cable)
        await cable.attach(cable.spec(delay_ns=20 * MS), coalesce=True)
        sent = [bytes(Datagram(number=number, payload=bytes(1000))) for number in range(20)]
        cable.a.sends(*sent, frame(b"last"))
        assert on_wire(await receives(cable.b, 21)) == on_wire([*sent, frame(b"last")])
        await eventually(lambda: words(3)[HELD_FRAMES] == 0)
        assert (words(2)[IPACKETS], words(2)[COALESCED_SUPERFRAMES]) == (21, 0)
        assert sum(words(2)[IERRORS : IERRORS + REASONS_MAX]) == 0
        assert words(3)[ISEGMENTS] == words(3)[OSEGMENTS] == 21


@on_loop
async def test_a_super_frame_that_is_refused_is_one_error_and_all_its_segments() -> None:
    async with impaired() as cable:
        words = cable.control.words
        refuse_long_frames(cable)
        await cable.attach(cable.spec(delay_ns=20 * MS))
        cable.a.sends(bytes(Offloaded(bytes(30_000), gso_size=1000)), frame(b"next"))
        assert await receives(cable.b, 1) == [frame(b"next")]
        await eventually(lambda: words(3)[HELD_FRAMES] == 0)
        assert words(2)[IERRORS + WRITE_ERROR] == 1
        assert words(3)[ESEGMENTS] == 30
        assert words(3)[OSEGMENTS] == words(3)[ISEGMENTS] + words(3)[ESEGMENTS] == 31


@on_loop
async def test_a_frame_that_the_receiver_refuses_is_one_error() -> None:
    async with impaired() as cable:
        words = cable.control.words
        await cable.attach(cable.spec(delay_ns=300 * MS))
        cable.a.sends(*numbered(3))
        await eventually(lambda: words(3)[HELD_FRAMES] == 3)
        cable.b.end.close()
        await eventually(lambda: words(2)[IERRORS + WRITE_ERROR] == 3)
        assert words(3)[HELD_FRAMES] == 0


def test_after_days_of_overload_the_sum_of_late_times_begins_again() -> None:
    fd = create("epair0a", 1)
    with closing(Ring(fd)) as ring:
        release = Release(ring, memoryview(b""), {})
        for _ in range(5):
            release._late(1 << 33, 1 << 30)
        assert ring.release[LATE_SUM] == 5 * (1 << 63) % (1 << 64)
    os.close(fd)
