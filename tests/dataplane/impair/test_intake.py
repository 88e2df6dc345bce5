"""What a line makes of bursts: super-frames, joined datagrams, receivers without offloads."""

from __future__ import annotations

import os
from array import array
from dataclasses import replace

import pytest

from epaird.control.interfaces.impairments import memory_file
from epaird.dataplane.impair.fates import Fate
from epaird.ipc.counters import (
    ADDED_SEGMENTS,
    COALESCED_DATAGRAMS,
    CORRUPTED,
    CUT,
    DUPLICATED,
    HELD_FRAMES,
    IMPAIRED,
    IPACKETS,
    ISEGMENTS,
    MARKED,
    OPACKETS,
    OSEGMENTS,
    REORDERED,
)
from epaird.ipc.impairment import LossChain
from epaird.ipc.ring import Ring
from epaird.ipc.ringfile import logged
from tests.dataplane.control import receives
from tests.dataplane.datagrams import Datagram
from tests.dataplane.impair.loop import MS, Impaired, impaired, on_wire
from tests.dataplane.superframes import Offloaded
from tests.loop import on_loop
from tests.waiting import eventually

LOSS = LossChain(p=0.05, r=0.95)
ECT_0, CE = 2, 3


async def crossed(cable: Impaired, frames: int) -> list[bytes]:
    """Return everything that is delivered of so many frames."""
    words = cable.control.words
    received: list[bytes] = []

    def done() -> bool:
        received.extend(cable.b.receives())
        return bool(words(1)[OPACKETS] == frames and not words(3)[HELD_FRAMES])

    await eventually(done)
    received.extend(cable.b.receives())
    return received


def superframes(count: int) -> list[bytes]:
    return [
        bytes(Offloaded(bytes([number]) * 30_000, gso_size=1000, sequence=number * 30_000))
        for number in range(count)
    ]


@on_loop
async def test_super_frames_cross_whole_in_both_ways_of_reading() -> None:
    async with impaired() as cable:
        await cable.attach(cable.spec(delay_ns=2 * MS))
        sent = [*superframes(3), bytes(Datagram()), *superframes(2)]
        for each in sent:
            cable.a.sends(each)
        assert await receives(cable.b, len(sent)) == sent
        assert cable.control.words(3)[OSEGMENTS] == 5 * 30 + 1


@pytest.mark.parametrize("offload", [True, False])
def test_the_same_segments_are_hit_however_they_are_divided_into_frames(offload: bool) -> None:
    delivered = []
    decided = []

    @on_loop
    async def run(frames: list[bytes]) -> None:
        async with impaired() as cable:
            await cable.attach(cable.spec(delay_ns=MS, loss=LOSS, duplicate=0.02), offload=offload)
            received = []
            for number, each in enumerate(frames):
                cable.a.sends(each)
                received += await crossed(cable, number + 1)
            words = cable.control.words
            line = words(3)
            assert line[OSEGMENTS] + line[DUPLICATED] == line[ISEGMENTS] + line[IMPAIRED]
            assert (
                words(1)[OPACKETS] + line[CUT] + line[DUPLICATED] + words(2)[ADDED_SEGMENTS]
                == words(2)[IPACKETS] + line[IMPAIRED]
            )
            ring = Ring(cable.ring)
            decided.append(logged(ring.fd))
            ring.close()
            delivered.append(sorted(set(on_wire(received))))

    whole = superframes(8)
    run(whole)
    run(on_wire(whole))
    assert decided[0] == decided[1]
    assert len(decided[0]) > 5
    assert delivered[0] == delivered[1]
    assert len(delivered[0]) < 240


@on_loop
async def test_a_receiver_without_offloads_gets_what_is_on_a_wire() -> None:
    async with impaired() as cable:
        await cable.attach(cable.spec(delay_ns=2 * MS), offload=False)
        sent = [*superframes(2), bytes(Offloaded(bytes(100), gso_size=0))]
        for each in sent:
            cable.a.sends(each)
        assert await crossed(cable, 3) == on_wire(sent)
        assert cable.control.words(2)[ADDED_SEGMENTS] == 58


@on_loop
async def test_datagrams_are_joined_around_what_is_lost() -> None:
    async with impaired() as cable:
        await cable.attach(cable.spec(delay_ns=2 * MS, loss=LOSS), coalesce=True)
        sent = [bytes(Datagram(number=number)) for number in range(60)]
        cable.a.sends(*sent)
        received = await crossed(cable, 60)
        words = cable.control.words
        lost = words(3)[IMPAIRED]
        assert lost
        assert words(2)[COALESCED_DATAGRAMS] > 30
        assert len(received) < 30
        assert len(on_wire(received)) == 60 - lost == words(2)[IPACKETS]


@on_loop
async def test_more_duplicates_than_a_burst_has_slots_are_delivered() -> None:
    async with impaired() as cable:
        await cable.attach(cable.spec(delay_ns=2 * MS, duplicate=1.0))
        sent = [bytes(Datagram(number=number)) for number in range(64)]
        cable.a.sends(*sent)
        assert await crossed(cable, 64) == [each for each in sent for _ in (0, 1)]


@on_loop
async def test_a_frame_of_more_segments_than_any_kernel_makes_has_one_fate() -> None:
    async with impaired() as cable:
        await cable.attach(cable.spec(delay_ns=2 * MS, loss=LossChain(0.5, 0.5)))
        sent = [bytes(Offloaded(bytes(60_000), gso_size=1)) for _ in range(2)]
        for each in sent:
            cable.a.sends(each)
        await crossed(cable, 2)
        words = cable.control.words
        line = words(3)
        errors = sum(words(2)[32:48])
        assert errors == 2
        assert words(1)[OPACKETS] + line[CUT] == words(2)[IPACKETS] + line[IMPAIRED] + errors


@pytest.mark.parametrize("whole", [False, True])
def test_a_replay_marks_segments_however_they_are_divided_into_frames(whole: bool) -> None:
    """Segment 3 is marked, 5 is doubled and marked, 7 is reordered and marked, 9 corrupted and marked."""
    fates = {3: (Fate.MARK,), 5: (Fate.DUPLICATE, Fate.MARK), 7: (Fate.REORDER, Fate.MARK)}
    fates[9] = (Fate.CORRUPT, Fate.MARK)
    decided = array(
        "Q", (number for place, each in fates.items() for fate in each for number in (place, fate))
    )
    frame = bytearray(bytes(Offloaded(bytes(12_000), version=6, gso_size=1000)))
    frame[25] |= ECT_0 << 4

    @on_loop
    async def run() -> None:
        async with impaired() as cable:
            replay = memory_file("replay", decided.tobytes())
            await cable.attach(replace(cable.spec(delay_ns=2 * MS), replay=True), files=(replay,))
            os.close(replay)
            frames = [bytes(frame)] if whole else on_wire([bytes(frame)])
            cable.a.sends(*frames)
            received = on_wire(await crossed(cable, len(frames)))
            line = cable.control.words(3)
            assert (line[MARKED], line[DUPLICATED], line[REORDERED], line[CORRUPTED]) == (3, 1, 1, 1)
            codepoints = [each[25] >> 4 & CE for each in received]
            assert sorted(codepoints) == [ECT_0] * 10 + [CE] * 3
            assert codepoints[0] == CE, "the reordered one is the first"

    run()
