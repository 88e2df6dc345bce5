"""The account of a worker that died: exact wherever it was killed."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.dataplane import burst, crossconnect, port
from epaird.dataplane.port import Port
from epaird.ipc import counters, ledger, settlement
from epaird.ipc.counters import (
    ADDED_SEGMENTS,
    COALESCED_DATAGRAMS,
    IERRORS,
    IN_FLIGHT,
    IPACKETS,
    JOINING,
    LISTED,
    OACTIVE,
    OERRORS,
    OPACKETS,
    REASONS,
)
from epaird.ipc.ledger import Table, Words
from epaird.ipc.settlement import settle
from tests.dataplane.conftest import Bench, frame
from tests.dataplane.datagrams import Datagram, segments


@pytest.fixture
def table() -> Iterator[Table]:
    table = Table.create(4)
    yield table
    os.close(table.fd)


def errors(words: Words, first: int) -> int:
    """Return all errors of one direction."""
    return sum(words[first + reason] for reason in range(len(REASONS)))


# The account of a dead worker.


@st.composite
def deaths(draw: st.DrawFn) -> dict[str, Any]:
    """The counts of the kernel and of the dead worker, and the truth."""
    few = st.integers(0, 50)
    oerrors = draw(st.lists(few, min_size=len(REASONS), max_size=len(REASONS)))
    ierrors = draw(st.lists(few, min_size=len(REASONS), max_size=len(REASONS)))
    delivered, in_hand = draw(few), draw(few)
    sent = delivered + sum(ierrors) + in_hand
    return {
        "oerrors": oerrors,
        "ierrors": ierrors,
        "delivered": delivered,
        "in_hand": in_hand,
        "sent": sent,
        "counted_sent": draw(st.integers(0, sent)),
        "counted_delivered": draw(st.integers(0, delivered)),
        "in_flight": draw(few),
    }


@given(deaths())
def test_any_split_of_frames_read_and_written_balances(death: dict[str, Any]) -> None:
    sender, receiver = (memoryview(bytearray(ledger.SLOT_BYTES)).cast("Q") for _ in range(2))
    sender[OPACKETS], receiver[IPACKETS] = death["counted_sent"], death["counted_delivered"]
    receiver[IN_FLIGHT] = death["in_flight"]
    sender[LISTED] = sender[OACTIVE] = 1
    for reason in range(len(REASONS)):
        sender[OERRORS + reason], receiver[IERRORS + reason] = (
            death["oerrors"][reason],
            death["ierrors"][reason],
        )
    read = death["sent"] + sum(death["oerrors"])
    assert settle(sender, receiver, read=read, written=death["delivered"]) == death["in_hand"]
    assert_settled(sender, receiver, read, death["delivered"])
    assert settle(sender, receiver, read=read, written=death["delivered"]) == 0, "counted twice"


def assert_settled(sender: Words, receiver: Words, read: int, delivered: int) -> None:
    assert sender[OPACKETS] + errors(sender, OERRORS) == read
    assert receiver[IPACKETS] == delivered
    assert sender[OPACKETS] == receiver[IPACKETS] + errors(receiver, IERRORS)
    assert not any((receiver[IN_FLIGHT], receiver[JOINING], sender[LISTED], sender[OACTIVE]))


# Killed between any two steps.


class Killed(BaseException):
    """SIGKILL."""


class Life:
    """Ends after so many steps, each a system call or a store to the ledger."""

    def __init__(self, length: int) -> None:
        self.length = length

    def step(self) -> None:
        if self.length == 0:
            raise Killed
        self.length -= 1


class MortalWords:
    """A slot whose writer may die before any store."""

    def __init__(self, words: Words, life: Life) -> None:
        self._words = words
        self._life = life

    def __getitem__(self, word: int) -> int:
        return self._words[word]

    def __setitem__(self, word: int, value: int) -> None:
        self._life.step()
        self._words[word] = value

    def __bytes__(self) -> bytes:
        return bytes(self._words)


class MortalBench(Bench):
    """A cable whose worker may die before and after every system call and every store, and the kernel's
    counts."""

    def __init__(self, life: Life, *, coalesce: bool) -> None:
        super().__init__()
        self.life = life
        self.takes_superframes = True
        self.read = dict.fromkeys(self.ports, 0)
        self.writes = dict.fromkeys((each.fd for each in self.ports), 0)
        self.delivered = dict.fromkeys((each.fd for each in self.ports), 0)
        for each in self.ports:
            each.account.words = MortalWords(each.account.words, life)  # type: ignore[assignment]
            each.read = self._mortal_read(each)
            each.coalesce = coalesce

    def slot(self, source: Port) -> Words:
        return self.table.slot(1 + self.ports.index(source))

    def _mortal_read(self, source: Port) -> Callable[[memoryview], int | None]:
        read = source.read

        def mortal(buffer: memoryview) -> int | None:
            self.life.step()
            length = read(buffer)
            if length is not None:
                self.read[source] += 1
            self.life.step()
            return length

        return mortal

    def write(self, fd: int, packet: bytes | memoryview) -> int:
        self.life.step()
        length = os.write(fd, packet)
        self.writes[fd] += 1
        self.delivered[fd] += 1
        self.life.step()
        return length

    def writev(self, fd: int, buffers: list[memoryview]) -> int:
        self.life.step()
        if not self.takes_superframes:
            raise OSError(errno.EINVAL, "no super-frames")
        length = os.writev(fd, buffers)
        self.writes[fd] += 1
        self.delivered[fd] += len(segments(b"".join(buffers)))
        self.life.step()
        return length


@contextmanager
def mortal(length: int, *, coalesce: bool) -> Iterator[MortalBench]:
    """A cable whose worker dies after so many steps."""
    bench = MortalBench(Life(length), coalesce=coalesce)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for module in (burst, crossconnect, port):
                patch.setattr(module, "os", bench)
            yield bench
    finally:
        bench.close()


def plain(bench: MortalBench) -> None:
    bench.owners[0].sends(*[frame(b"%d" % number) for number in range(5)])
    bench.loop()


def refused(bench: MortalBench) -> None:
    bench.owners[0].sends(frame(), frame(bytes(2000)), frame()[:-1], frame(), frame(bytes(2000)))
    bench.loop()


def joined(bench: MortalBench) -> None:
    """Runs of two sizes, and frames that are no datagrams before, between and after them."""
    runs = [[Datagram(b"x" * size, number=number) for number in range(7)] for size in (64, 32)]
    bench.owners[0].sends(frame(), *map(bytes, runs[0]), frame(), *map(bytes, runs[1]), frame())
    bench.loop()


def super_frames_refused(bench: MortalBench) -> None:
    bench.takes_superframes = False
    joined(bench)


def both_ways(bench: MortalBench) -> None:
    bench.owners[0].sends(*[bytes(Datagram(number=number)) for number in range(6)])
    bench.owners[1].sends(frame(), frame())
    bench.loop()


def waiting(bench: MortalBench) -> None:
    """The receiver accepts no frame, then all of them; the sender finds the queue full."""
    source = bench.ports[0]
    bench.queue.limit = 9
    # The smallest buffer, so that few frames fill it.
    bench.owners[1].device.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 0)
    while not source.listed:
        bench.owners[0].sends(frame())
        bench.loop()
    while bench.owners[1].receives():
        bench.loop()


def refused_by_the_receiver(bench: MortalBench) -> None:
    bench.owners[0].sends(*[bytes(Datagram(number=number)) for number in range(6)], frame())
    bench.owners[1].end.close()
    bench.loop()


def down(bench: MortalBench) -> None:
    target = bench.ports[1]
    with Path("/proc/self/mem").open("r+b", buffering=0) as device:
        up, target.fd = target.fd, device.fileno()
        for counts in (bench.writes, bench.delivered):
            counts[target.fd] = 0
        bench.owners[0].sends(*[bytes(Datagram(number=number)) for number in range(3)], frame())
        try:
            bench.loop()
        finally:
            target.fd = up


TRAFFIC = (
    plain,
    refused,
    joined,
    super_frames_refused,
    both_ways,
    waiting,
    refused_by_the_receiver,
    down,
)


@pytest.mark.parametrize("coalesce", [False, True])
@pytest.mark.parametrize("traffic", TRAFFIC)
def test_every_frame_has_a_fate_wherever_the_worker_is_killed(
    traffic: Callable[[MortalBench], None], coalesce: bool
) -> None:
    life, died = 0, True
    while died:
        with mortal(life, coalesce=coalesce) as bench:
            try:
                traffic(bench)
                died = False
            except Killed:
                pass
            for source in bench.ports:
                target = bench.peer(source)
                sender, receiver = bench.slot(source), bench.slot(target)
                read, written, delivered = (
                    bench.read[source],
                    bench.writes[target.fd],
                    bench.delivered[target.fd],
                )
                lost = settle(sender, receiver, read=read, written=written)
                assert died or not lost
                try:
                    assert_settled(sender, receiver, read, delivered)
                except AssertionError as error:
                    raise AssertionError(
                        f"killed after {life} steps, {source.name} to {target.name}"
                    ) from error
                assert receiver[COALESCED_DATAGRAMS] <= receiver[IPACKETS]
            joins = coalesce and traffic in (joined, both_ways)
            assert died or bool(bench.slot(bench.ports[1])[COALESCED_DATAGRAMS]) == joins
        life += 1
    assert life > 20


@pytest.mark.parametrize("coalesce", [False, True])
@pytest.mark.parametrize("traffic", TRAFFIC)
def test_with_several_queues_what_is_missing_in_all_is_what_one_process_had_in_hand(
    traffic: Callable[[MortalBench], None], coalesce: bool
) -> None:
    """One queue's process is killed anywhere; another queue has frames that wait, and goes on."""
    life, died = 0, True
    while died:
        with mortal(life, coalesce=coalesce) as bench:
            try:
                traffic(bench)
                died = False
            except Killed:
                pass
            for source in bench.ports:
                target = bench.peer(source)
                sender, receiver = bench.slot(source), bench.slot(target)
                other, waiting = (memoryview(bytearray(ledger.SLOT_BYTES)).cast("Q") for _ in range(2))
                other[OPACKETS], waiting[IPACKETS], waiting[IN_FLIGHT] = 20, 13, 7
                joining = settlement.end_process(sender, receiver)
                missing = settlement.correction(
                    [sender.tolist(), other.tolist()],
                    [receiver.tolist(), waiting.tolist()],
                    read=bench.read[source] + 20,
                    written=bench.writes[target.fd] + 13,
                    base=0,
                    joinings=[joining] if joining else [],
                )
                assert died or not missing
                settlement.amend(sender, receiver, missing)
                assert_settled(sender, receiver, bench.read[source], bench.delivered[target.fd])
                assert waiting[IN_FLIGHT] == 7
        life += 1
    assert life > 20


def test_segments_that_were_added_are_in_the_balance(table: Table) -> None:
    """A super-frame that was sent and delivered as 45 segments leaves nothing to settle."""
    sender, receiver = table.slot(0), table.slot(1)
    sender[OPACKETS], receiver[ADDED_SEGMENTS], receiver[IPACKETS] = 1, 44, 44
    assert settlement.balance(sender, receiver) == 1
    assert settle(sender, receiver, read=1, written=44) == 1
    assert settlement.balance(sender, receiver) == 0


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(-50, 50))
def test_a_correction_is_what_the_kernel_has_and_the_slots_have_not(
    sent: int, delivered: int, earlier: int, difference: int
) -> None:
    """``earlier`` frames more were sent than received by the time when the two were patched together. What
    the slots have and the kernel has not, such as frames of a device that was made anew, takes nothing away.
    """
    delivered = min(sent, delivered)
    senders, receivers = [[0] * counters.SLOT_WORDS for _ in range(2)], [[0] * counters.SLOT_WORDS]
    senders[0][OPACKETS], senders[1][OPACKETS], receivers[0][IPACKETS] = sent, earlier, delivered
    missing = settlement.correction(
        senders,
        [*receivers, [0] * counters.SLOT_WORDS],
        read=sent + earlier + difference,
        written=delivered,
        base=earlier,
    )
    more = max(0, difference)
    assert missing == settlement.Correction(sent=more, lost=sent - delivered + more)
    unplugged = settlement.correction_unplugged(senders, read=sent + earlier + difference)
    assert unplugged == settlement.Correction(dropped=more)


@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_queues_that_are_ahead_of_the_kernel_need_no_correction(ahead: int) -> None:
    sender, receiver = [0] * counters.SLOT_WORDS, [0] * counters.SLOT_WORDS
    sender[OPACKETS] = receiver[IPACKETS] = 10
    receiver[IERRORS] = ahead
    assert not settlement.correction([sender], [receiver], read=10 - ahead, written=10, base=0)


@pytest.mark.parametrize("more", [0, 1, 5])
def test_slots_that_are_ahead_of_the_kernel_lose_nothing(table: Table, more: int) -> None:
    sender, receiver = table.slot(0), table.slot(1)
    sender[OPACKETS], receiver[IPACKETS] = 10, 10 + more
    assert settle(sender, receiver, read=10, written=10 + more) == 0
    assert settlement.settle_unplugged(sender, read=10 - more) == 0
    assert errors(receiver, IERRORS) == errors(sender, OERRORS) == 0


def test_a_correction_is_added_to_one_queue(table: Table) -> None:
    sender, receiver = table.slot(0), table.slot(1)
    for _ in range(2):
        settlement.amend(sender, receiver, settlement.Correction(1, 2, 30, 4, 25, 6))
    assert {word: count for word, count in enumerate(sender) if count} == {
        OPACKETS: 2,
        OERRORS + counters.WORKER_LOST: 4,
    }
    assert {word: count for word, count in enumerate(receiver) if count} == {
        IPACKETS: 60,
        counters.COALESCED_SUPERFRAMES: 8,
        COALESCED_DATAGRAMS: 50,
        IERRORS + counters.WORKER_LOST: 12,
    }


def test_a_queue_without_a_peer_loses_its_frames_itself() -> None:
    slots = [[0] * counters.SLOT_WORDS for _ in range(2)]
    slots[0][OERRORS + counters.PEER_DOWN] = 5
    missing = settlement.correction_unplugged(slots, read=8)
    assert missing == settlement.Correction(dropped=3)
    sender = memoryview(bytearray(ledger.SLOT_BYTES)).cast("Q")
    settlement.amend(sender, sender, missing)
    assert sender[OERRORS + counters.WORKER_LOST] == 3


def test_frames_of_an_earlier_patch_are_not_lost(table: Table) -> None:
    sender, receiver = table.slot(0), table.slot(1)
    sender[OPACKETS], receiver[IPACKETS] = 100, 7
    base = settlement.balance(sender, receiver)
    assert base == 93
    sender[OPACKETS] += 5
    receiver[IPACKETS] += 3
    assert settle(sender, receiver, read=0, written=0, base=base) == 2
    assert receiver[IERRORS + counters.WORKER_LOST] == 2
    assert settlement.balance(sender, receiver) == base


def test_frames_of_an_unplugged_half_are_its_own_errors(table: Table) -> None:
    sender = table.slot(0)
    sender[OPACKETS], sender[OERRORS + counters.PEER_DOWN] = 10, 5
    assert settlement.settle_unplugged(sender, read=18) == 3
    assert sender[OERRORS + counters.WORKER_LOST] == 3
    for held in (IN_FLIGHT, JOINING, counters.HELD_BYTES, LISTED, OACTIVE):
        sender[held] = 1
    assert settlement.settle_unplugged(sender, read=18) == 0
    assert not any(sender[held] for held in (IN_FLIGHT, JOINING, counters.HELD_BYTES, LISTED, OACTIVE))


@pytest.mark.parametrize(
    ("joining", "writes", "delivered"),
    [
        ((4, 23, 30), 0, (0, 0, 0)),
        ((4, 23, 30), 5, (53, 1, 49)),
        ((0, 0, 20), 1, (20, 1, 20)),
        ((1, 20, 1), 1, (20, 1, 20)),
        ((1, 20, 1), 4, (23, 1, 20)),
        ((3, 3, 1), 3, (3, 0, 0)),
    ],
    ids=[
        "nothing written",
        "frames and two super-frames, counted as one",
        "one super-frame",
        "the second was refused",
        "the second was refused, some of its frames written",
        "the first was refused",
    ],
)
def test_a_burst_with_super_frames_is_counted_by_its_writes(
    table: Table, joining: tuple[int, int, int], writes: int, delivered: tuple[int, int, int]
) -> None:
    """``joining`` is what the worker recorded: writes and frames before the super-frame, its datagrams."""
    before, arrived, datagrams = joining
    sender, receiver = table.slot(0), table.slot(1)
    receiver[JOINING] = before << 32 | arrived << 16 | datagrams
    settle(sender, receiver, read=53, written=writes)
    superframes = counters.COALESCED_SUPERFRAMES
    assert tuple(receiver[word] for word in (IPACKETS, superframes, COALESCED_DATAGRAMS)) == delivered
    assert receiver[IERRORS + counters.WORKER_LOST] == 53 - delivered[0]


@pytest.mark.parametrize(
    ("joinings", "writes", "delivered"),
    [
        ([(0, 0, 20), (4, 23, 30)], 6, (73, 2, 69)),
        ([(0, 0, 20), (4, 23, 30)], 8, (75, 2, 69)),
        ([(4, 23, 30), (0, 0, 20)], 6, (73, 2, 69)),
        ([(0, 0, 20), (0, 0, 30)], 2, (50, 2, 50)),
        ([(0, 0, 0), (0, 0, 20)], 1, (20, 1, 20)),
        ([], 3, (3, 0, 0)),
    ],
)
def test_bursts_of_several_processes_that_died_are_counted_together(
    joinings: list[tuple[int, int, int]], writes: int, delivered: tuple[int, int, int]
) -> None:
    slots = [[0] * counters.SLOT_WORDS]
    words = [before << 32 | arrived << 16 | datagrams for before, arrived, datagrams in joinings]
    missing = settlement.correction(slots, slots, read=99, written=writes, base=0, joinings=words)
    assert (missing.delivered, missing.superframes, missing.datagrams) == delivered
    assert (missing.sent, missing.lost) == (99, 99 - missing.delivered)


def test_messages_made_by_the_worker_are_no_frames_delivered(table: Table) -> None:
    sender, receiver = table.slot(0), table.slot(1)
    sender[OPACKETS], receiver[IPACKETS], receiver[counters.TOO_BIG] = 10, 10, 4
    assert settle(sender, receiver, read=10, written=14) == 0
    assert receiver[IPACKETS] == 10
