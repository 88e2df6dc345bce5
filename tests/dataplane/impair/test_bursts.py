"""Datagrams that are dropped from a burst, and the joining of those around them."""

from __future__ import annotations

import pytest

from epaird.dataplane.impair.direct import AT_ONCE
from epaird.ipc.counters import COALESCED_DATAGRAMS, HELD_FRAMES, IMPAIRED, ISEGMENTS, OPACKETS, OSEGMENTS
from epaird.ipc.impairment import LossChain
from epaird.ipc.ring import Ring
from epaird.ipc.ringfile import logged
from tests.dataplane.conftest import frame
from tests.dataplane.datagrams import Datagram
from tests.dataplane.impair.loop import MS, Impaired, impaired, on_wire
from tests.loop import on_loop
from tests.waiting import eventually

LOSS = LossChain(p=0.05, r=0.95)
COUNT = AT_ONCE + 128
ALIKE = [bytes(Datagram(number=number)) for number in range(COUNT)]
WITH_GAPS = [bytes(Datagram(number=number + number // 20)) for number in range(COUNT)]
MIXED = [each if number % 30 else frame(bytes(60)) for number, each in enumerate(ALIKE)]
GROUPS = [frame(number.to_bytes(4), b"\xff" * 6) for number in range(COUNT)]


async def delivered(cable: Impaired, sent: list[bytes]) -> list[bytes]:
    words = cable.control.words
    cable.a.sends(*sent)
    received: list[bytes] = []

    def done() -> bool:
        received.extend(cable.b.receives())
        return words(1)[OPACKETS] == len(sent) and not words(3)[HELD_FRAMES]

    await eventually(done)
    return received + cable.b.receives()


@pytest.mark.parametrize("coalesce", [True, False])
@pytest.mark.parametrize("sent", [ALIKE, WITH_GAPS, MIXED, GROUPS], ids=["alike", "gaps", "mixed", "groups"])
def test_all_but_what_is_lost_arrives_in_order(sent: list[bytes], coalesce: bool) -> None:
    @on_loop
    async def run() -> None:
        async with impaired() as cable:
            await cable.attach(cable.spec(delay_ns=2 * MS, loss=LOSS), coalesce=coalesce)
            received = await delivered(cable, sent)
            with_ring = Ring(cable.ring)
            lost = [segment for segment, _ in logged(with_ring.fd)]
            with_ring.close()
            assert len(lost) > 1
            assert on_wire(received) == [
                each for number, each in enumerate(on_wire(sent)) if number not in lost
            ]
            line = cable.control.words(3)
            assert (line[OSEGMENTS], line[ISEGMENTS], line[IMPAIRED]) == (COUNT, COUNT - len(lost), len(lost))
            if coalesce and sent is not GROUPS:
                assert cable.control.words(2)[COALESCED_DATAGRAMS] > COUNT / 2

    run()


@on_loop
async def test_a_burst_may_be_lost_as_a_whole() -> None:
    async with impaired() as cable:
        await cable.attach(cable.spec(loss=LossChain(p=1.0, r=0.0)), coalesce=True)
        assert await delivered(cable, ALIKE) == []
        assert cable.control.words(3)[IMPAIRED] == COUNT
