"""One line for all queues of an interface."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import pytest

from epaird.ipc.counters import (
    DUPLICATED,
    HELD_FRAMES,
    IMPAIRED,
    IPACKETS,
    OACTIVE,
    OPACKETS,
    OSEGMENTS,
    REORDERED,
)
from epaird.ipc.impairment import LineSpec, LossChain
from epaird.ipc.messages import Amend, Continue, Drained, Pause
from epaird.ipc.ring import Ring
from epaird.ipc.ringfile import logged
from epaird.ipc.settlement import Correction, writes
from tests.dataplane.conftest import frame, numbered
from tests.dataplane.impair.loop import MS, Queues, impaired_queues
from tests.dataplane.impair.test_lines import rings
from tests.loop import on_loop, turns
from tests.waiting import eventually

HOLD = 10_000 * MS


def held(queues: Queues) -> int:
    return queues.control.words(3)[HELD_FRAMES]


def counts(queues: Queues, slots: Sequence[int], word: int) -> list[int]:
    return [queues.control.words(slot)[word] for slot in slots]


async def send(queues: Queues, queue: int, count: int) -> None:
    """Send frames through a queue, a burst each time, and wait until they are in the line."""
    words = queues.control.words(1 + queue)
    for each in numbered(count):
        before = words[OPACKETS]
        queues.a[queue].sends(each)
        await eventually(lambda: words[OPACKETS] > before)  # noqa: B023


@on_loop
async def test_frames_keep_their_queue_and_are_counted_in_the_first() -> None:
    async with impaired_queues() as queues:
        await queues.attach_all(queues.spec(delay_ns=5 * MS))
        assert rings() == 3, "the test's, the line's and that of its mapping"
        for count in (3, 2):
            for queue in (1, 0):
                queues.a[queue].sends(*numbered(count))
        for queue in (0, 1):
            received = await queues.receive(queue, 5)
            assert received == numbered(3) + numbered(2)
        assert counts(queues, (1, 2), OPACKETS) == [5, 5]
        await eventually(lambda: counts(queues, (4, 5), IPACKETS) == [10, 0])
        assert held(queues) == 0


@on_loop
async def test_decisions_are_one_sequence() -> None:
    async with impaired_queues() as queues:
        spec = queues.spec(delay_ns=MS, loss=LossChain(0.1, 0.9), duplicate=0.1, reorder=0.1)
        await queues.attach_all(spec)
        for number in range(60):
            await send(queues, number % 2, 5)
        await eventually(lambda: not held(queues))
        numbers = [segment for segment, _ in logged(queues.ring)]
        line = queues.control.words(3)
        assert numbers == sorted(numbers)
        assert line[OSEGMENTS] == 300
        assert len(numbers) >= line[IMPAIRED] + line[DUPLICATED] + line[REORDERED] > 50
        delivered = sum(counts(queues, (4, 5), IPACKETS))
        assert delivered == 300 - line[IMPAIRED] + line[DUPLICATED]
        assert delivered == sum([len(owner.receives()) for owner in queues.b])


@on_loop
async def test_nothing_is_released_while_a_queue_is_missing() -> None:
    async with impaired_queues() as queues:
        spec = queues.spec()
        await queues.attach(0, spec)
        await send(queues, 0, 2)
        await turns(20)
        assert held(queues) == 2
        await queues.attach(1, spec)
        assert await queues.receive(0, 2) == numbered(2)
        await queues.keep(0)
        await send(queues, 1, 2)
        await turns(20)
        assert held(queues) == 2
        assert {about.cable.kind for about, _ in queues.control.worker.attached()} == {"cable", "kept"}
        for about, fds in queues.control.worker.attached():
            assert len(fds) == about.cable.descriptors
        await queues.attach(0, spec)
        assert await queues.receive(1, 2) == numbered(2)
        for queue in (1, 0):
            await queues.detach(queue)
        assert rings() == 1


@on_loop
async def test_a_line_lasts_until_its_last_queue_is_detached_and_goes_on_with_the_next() -> None:
    async with impaired_queues() as queues:
        spec = queues.spec(delay_ns=HOLD)
        await queues.attach_all(spec)
        await send(queues, 0, 2)
        await send(queues, 1, 3)
        for queue in (0, 1):
            await queues.keep(queue)
        later = replace(queues.spec(), slot=3)
        ring = Ring(queues.ring)
        assert ring.held().frames == 5
        ring.close()
        await queues.attach_all(later)
        await send(queues, 1, 1)
        assert held(queues) == 6, "what was held has its deadlines, and what follows stays behind it"


@on_loop
async def test_a_change_is_applied_once_and_reported_for_every_queue() -> None:
    async with impaired_queues() as queues:
        await queues.attach_all(queues.spec(delay_ns=HOLD))
        spec = queues.spec(delay_ns=HOLD, loss=LossChain(1.0, 0.0))
        await queues.impair(1, spec)
        assert [about.cable.ports[0].line for about, _ in queues.control.worker.attached()] == [(spec,)] * 2
        await send(queues, 0, 3)
        assert queues.control.words(3)[IMPAIRED] == 3
        await queues.impair(0, spec)
        assert rings() == 3


@on_loop
async def test_a_line_is_dropped_once_no_queue_needs_it() -> None:
    async with impaired_queues() as queues:
        await queues.attach_all(queues.spec(delay_ns=50 * MS))
        await send(queues, 1, 2)
        await queues.impair(0, None)
        assert await queues.receive(1, 2) == numbered(2)
        await turns(20)
        assert not any(isinstance(each, Drained) for each in queues.control.received)
        await queues.impair(1, None)
        for queue in (0, 1):
            await eventually(lambda: Drained(f"epair0.{queue}", 0) in queues.control.received)  # noqa: B023
        assert rings() == 1
        assert [about.cable.ports[0].line for about, _ in queues.control.worker.attached()] == [(), ()]
        queues.a[1].sends(*numbered(2))
        assert await queues.receive(1, 2) == numbered(2)
        assert counts(queues, (4, 5), IPACKETS) == [2, 2], "without a line each queue counts its own"
        for queue in (0, 1):
            await queues.impair(queue, queues.spec())
        await send(queues, 1, 2)
        assert await queues.receive(1, 2) == numbered(2)
        assert counts(queues, (4, 5), IPACKETS) == [4, 2]


@on_loop
async def test_a_change_that_takes_the_removal_back_keeps_the_line() -> None:
    async with impaired_queues() as queues:
        await queues.attach_all(queues.spec(delay_ns=50 * MS))
        await send(queues, 0, 2)
        for queue in (0, 1):
            await queues.impair(queue, None)
        for queue in (0, 1):
            await queues.impair(queue, queues.spec(delay_ns=MS))
        assert await queues.receive(0, 2) == numbered(2)
        await turns(20)
        assert not any(isinstance(each, Drained) for each in queues.control.received)


@on_loop
async def test_queues_that_are_attached_as_draining_are_dropped_together() -> None:
    async with impaired_queues() as queues:
        await queues.attach_all(queues.spec(delay_ns=20 * MS))
        await send(queues, 0, 2)
        for queue in (0, 1):
            await queues.keep(queue)
        await queues.attach_all(LineSpec(3, draining=True, queues=2))
        assert await queues.receive(0, 2) == numbered(2)
        for queue in (0, 1):
            await eventually(lambda: Drained(f"epair0.{queue}", 0) in queues.control.received)  # noqa: B023


@on_loop
async def test_a_full_ring_blocks_every_queue_and_lets_them_read_in_turn() -> None:
    async with impaired_queues() as queues:
        words = queues.control.words
        await queues.attach_all(queues.spec(delay_ns=2 * MS, buffer=3000, rate=20_000_000))
        sent = [0, 0]
        while not (words(1)[OACTIVE] and words(2)[OACTIVE]):
            for queue in (0, 1):
                with suppress(BlockingIOError):
                    queues.a[queue].sends(frame(sent[queue].to_bytes(4) + bytes(100)))
                    sent[queue] += 1
            await turns()
        for queue in (0, 1):
            received = await queues.receive(queue, sent[queue])
            assert received == [frame(each.to_bytes(4) + bytes(100)) for each in range(sent[queue])]
        await eventually(lambda: not (words(1)[OACTIVE] or words(2)[OACTIVE]))
        assert counts(queues, (4, 5), IPACKETS) == [sum(sent), 0]


@on_loop
async def test_a_queue_that_takes_nothing_blocks_the_others() -> None:
    async with impaired_queues() as queues:
        await queues.attach_all(queues.spec())
        sent = 0
        while not held(queues):
            with suppress(BlockingIOError):
                queues.a[0].sends(frame(sent.to_bytes(4)))
                sent += 1
            await turns()
        before = held(queues)
        await send(queues, 1, 2)
        await turns(20)
        assert held(queues) >= before + 2
        assert await queues.receive(0, sent) == [frame(number.to_bytes(4)) for number in range(sent)]
        assert await queues.receive(1, 2) == numbered(2)


@on_loop
async def test_a_pause_of_one_queue_is_one_of_the_line() -> None:
    async with impaired_queues() as queues:
        await queues.attach_all(queues.spec(delay_ns=MS))
        handle = queues.control.worker.handle
        handle(Pause(1, "epair0.0", 3600), [])
        handle(Pause(2, "epair0.1", 3600), [])
        handle(Continue(3, "epair0.1"), [])
        await send(queues, 1, 2)
        await turns(20)
        assert held(queues) == 2
        handle(Continue(4, "epair0.0"), [])
        assert await queues.receive(1, 2) == numbered(2)


@on_loop
async def test_no_more_ports_than_queues_share_a_line() -> None:
    async with impaired_queues() as queues:
        await queues.attach_all(queues.spec(delay_ns=HOLD))
        queues.a.append(queues.a[0])
        queues.b.append(queues.b[0])
        await queues.attach(2, queues.spec(), error="epair0a: its ring is in use")
        del queues.a[2], queues.b[2]


@pytest.mark.parametrize("missing", [0, 1])
@on_loop
async def test_what_is_counted_later_does_not_release_what_is_held(missing: int) -> None:
    """A successor would take these frames, which the kernel has counted, for ones that were released."""
    async with impaired_queues() as queues:
        await queues.attach_all(queues.spec(delay_ns=HOLD))
        await send(queues, 0, 3)
        correction = (Correction(delivered=missing), Correction())
        queues.control.worker.handle(Amend(1, "epair0.0", correction), [])
        words = queues.control.words(4)
        assert words[IPACKETS] == missing
        ring = Ring(queues.ring)
        ring.settle(writes(words), words)
        assert ring.held().frames == 3
        ring.close()


@on_loop
async def test_a_queue_does_not_starve_beside_another_one_that_is_always_full() -> None:
    async with impaired_queues() as queues:
        await queues.attach_all(queues.spec(buffer=1000, rate=50_000_000))
        while min(counts(queues, (1, 2), OPACKETS)) < 1000:
            for queue in (0, 1):
                with suppress(BlockingIOError):
                    while True:
                        queues.a[queue].sends(frame(bytes(100)))
                queues.b[queue].receives()
            await turns()
        sent = counts(queues, (1, 2), OPACKETS)
        assert max(sent) < 2 * min(sent), sent
