"""Frames that are read straight into the ring."""

from __future__ import annotations

from epaird.dataplane.burst import SLOT
from epaird.dataplane.impair.direct import AT_ONCE
from epaird.ipc.counters import (
    COALESCED_DATAGRAMS,
    OBYTES,
    OERRORS,
    OMCASTS,
    OPACKETS,
    OSEGMENTS,
    OVERSIZE,
    RUNT,
)
from tests.dataplane.conftest import frame, numbered
from tests.dataplane.control import receives
from tests.dataplane.datagrams import Datagram
from tests.dataplane.impair.loop import MS, impaired
from tests.dataplane.superframes import Offloaded
from tests.loop import on_loop
from tests.waiting import eventually

STREAM = Offloaded(bytes(30_000), gso_size=1448, tcp_options=b"\x01" * 12)
SEGMENTS = 21


@on_loop
async def test_frames_of_every_kind_are_counted_and_delivered_in_order() -> None:
    async with impaired() as cable:
        words = cable.control.words
        await cable.attach(cable.spec(delay_ns=2 * MS))
        sent = [bytes(STREAM.but(sequence=number)) for number in range(3)]
        sent[1:1] = [frame(b"group", b"\xff" * 6), bytes(STREAM.but(gso_size=0, payload=b""))]
        for each in sent:
            cable.a.sends(each)
            assert await receives(cable.b, 1) == [each]
        cable.a.sends(*sent)
        assert await receives(cable.b, len(sent)) == sent
        assert words(1)[OPACKETS] == 2 * len(sent)
        assert words(1)[OBYTES] == 2 * sum(len(each) - 10 for each in sent)
        assert words(1)[OMCASTS] == 2
        assert words(3)[OSEGMENTS] == 2 * (3 * SEGMENTS + 2)


@on_loop
async def test_what_is_too_long_or_too_short_is_refused_between_frames_that_are_not() -> None:
    async with impaired() as cable:
        words = cable.control.words
        await cable.attach(cable.spec(delay_ns=2 * MS))
        fits = bytes(STREAM)
        refused = [bytes(STREAM.but(gso_size=1500)), frame(bytes(1600)), bytes(SLOT + 9), frame()[:-1]]
        for each in refused:
            cable.a.sends(fits, each, fits)
            assert await receives(cable.b, 2) == [fits, fits]
        assert words(1)[OERRORS + OVERSIZE] == len(refused) - 1
        assert words(1)[OERRORS + RUNT] == 1
        assert words(1)[OPACKETS] == 2 * len(refused)


@on_loop
async def test_a_smaller_mtu_is_applied_to_super_frames_like_the_one_before() -> None:
    async with impaired() as cable:
        await cable.attach(cable.spec(delay_ns=2 * MS))
        cable.a.sends(bytes(STREAM))
        assert await receives(cable.b, 1) == [bytes(STREAM)]
        cable.control.worker._cables["epair0"].resize((1400, 1500))
        cable.a.sends(bytes(STREAM))
        await eventually(lambda: cable.control.words(1)[OERRORS + OVERSIZE] == 1)


@on_loop
async def test_many_datagrams_are_joined_though_few_are_read_into_the_ring() -> None:
    async with impaired() as cable:
        words = cable.control.words
        await cable.attach(cable.spec(delay_ns=2 * MS), coalesce=True)
        sent = [bytes(Datagram(number=number)) for number in range(60)]
        cable.a.sends(*sent)
        await eventually(lambda: words(1)[OPACKETS] == len(sent))
        await receives(cable.b, AT_ONCE + 1)
        assert words(2)[COALESCED_DATAGRAMS] == len(sent) - AT_ONCE
        for each in numbered(3):
            cable.a.sends(each)
            assert await receives(cable.b, 1) == [each]
