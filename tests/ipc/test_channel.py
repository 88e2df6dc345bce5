from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field

import pytest

from epaird.ipc.channel import FDS_MAX, Assembler, Channel
from epaird.ipc.messages import Done, Gone, Message, More, encode
from tests.loop import descriptors, on_loop, turns
from tests.waiting import eventually


@dataclass
class End:
    """One end: its channel, and what came of it."""

    messages: list[Message] = field(default_factory=list)
    fds: list[list[int]] = field(default_factory=list)
    ended: int = 0

    def received(self, message: Message, fds: list[int]) -> None:
        self.messages.append(message)
        self.fds.append(fds)

    def has_ended(self) -> None:
        self.ended += 1

    def open(self, connection: socket.socket) -> None:
        self.channel = Channel(connection, self.received, self.has_ended)


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


@asynccontextmanager
async def ends() -> AsyncIterator[tuple[End, End]]:
    """Two ends joined."""
    both = End(), End()
    for end, connection in zip(both, pair(), strict=True):
        end.open(connection)
    try:
        yield both
    finally:
        for end in both:
            end.channel.close()
            for fds in end.fds:
                for fd in fds:
                    os.close(fd)


@on_loop
async def test_messages_arrive_both_ways_in_order() -> None:
    async with ends() as (here, there):
        for number in range(5):
            here.channel.send(Done(number))
            there.channel.send(Gone("epair0", str(number)))
        await eventually(lambda: len(here.messages) == len(there.messages) == 5)
        assert there.messages == [Done(number) for number in range(5)]
        assert here.messages == [Gone("epair0", str(number)) for number in range(5)]


@on_loop
async def test_more_than_the_kernel_takes_at_once_neither_block_nor_get_lost() -> None:
    """net.unix.max_dgram_qlen, 10 by default, bounds the packets that wait in a socket."""
    ours, theirs = pair()
    with theirs:
        here = End()
        here.open(ours)
        for number in range(1000):
            here.channel.send(Done(number))
        await turns()
        there = End()
        there.open(theirs)
        await eventually(lambda: len(there.messages) == 1000)
        assert there.messages == [Done(number) for number in range(1000)]
        here.channel.send(Done(1000))
        await eventually(lambda: there.messages[-1] == Done(1000))
        for end in (here, there):
            end.channel.close()


@on_loop
async def test_a_channel_with_nothing_to_send_keeps_the_loop_asleep() -> None:
    ours, theirs = pair()
    with theirs:
        here = End()
        here.open(ours)
        for number in range(100):
            here.channel.send(Done(number))
        there = End()
        there.open(theirs)
        await eventually(lambda: len(there.messages) == 100)
        await turns()
        assert not asyncio.get_running_loop().remove_writer(ours.fileno()), "polled for room all the time"
        for end in (here, there):
            end.channel.close()


@on_loop
async def test_descriptors_come_with_their_message_and_are_close_on_exec() -> None:
    async with ends() as (here, there):
        with closing(socket.socket(socket.AF_UNIX)) as one, closing(socket.socket(socket.AF_UNIX)) as other:
            files = [descriptors()[each.fileno()] for each in (one, other)]
            for each in (one, other):
                os.set_inheritable(each.fileno(), True)
            here.channel.send(Done(1))
            here.channel.send(Done(2), (one.fileno(), other.fileno()))
            here.channel.send(Done(3), (other.fileno(),))
            await eventually(lambda: len(there.messages) == 3)
        assert [len(fds) for fds in there.fds] == [0, 2, 1]
        for fds, expected in zip(there.fds, ([], files, files[1:]), strict=True):
            assert [descriptors()[fd] for fd in fds] == list(expected)
            assert all(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for fd in fds)


@on_loop
async def test_descriptors_of_messages_that_wait_arrive_too() -> None:
    ours, theirs = pair()
    with theirs, closing(socket.socket(socket.AF_UNIX)) as thing:
        here, there = End(), End()
        here.open(ours)
        for number in range(50):
            here.channel.send(Done(number), (thing.fileno(),))
        there.open(theirs)
        await eventually(lambda: len(there.messages) == 50)
        assert all(len(fds) == 1 for fds in there.fds)
        for fds in there.fds:
            os.close(fds[0])
        for end in (here, there):
            end.channel.close()


@on_loop
async def test_the_other_end_closing_is_told_once_behind_what_it_said() -> None:
    async with ends() as (here, there):
        here.channel.send(Done(1))
        here.channel.send(Done(2))
        here.channel.close()
        await eventually(lambda: there.ended)
        assert there.messages == [Done(1), Done(2)]
        there.channel.send(Done(3))
        await turns()
        there.channel.close()
        assert (there.ended, here.ended) == (1, 0)


@on_loop
async def test_the_other_end_closing_with_something_unread_is_told_too() -> None:
    ours, theirs = pair()
    here = End()
    here.open(ours)
    here.channel.send(Done(1))
    theirs.close()  # ECONNRESET for us
    await eventually(lambda: here.ended)
    await turns()
    assert here.ended == 1


@on_loop
async def test_sending_to_an_end_that_has_closed_is_nothing() -> None:
    ours, theirs = pair()
    here = End()
    here.open(ours)
    theirs.close()
    for number in range(100):
        here.channel.send(Done(number))
    await eventually(lambda: here.ended)
    here.channel.send(Done(100))
    await turns()


@on_loop
async def test_an_end_that_closes_while_much_waits_ends_it() -> None:
    ours, theirs = pair()
    here = End()
    here.open(ours)
    for number in range(1000):
        here.channel.send(Done(number))
    theirs.close()
    await eventually(lambda: here.ended)
    here.channel.close()


@on_loop
async def test_closing_drops_what_waits_and_may_be_done_twice() -> None:
    ours, theirs = pair()
    with theirs:
        here = End()
        here.open(ours)
        for number in range(1000):
            here.channel.send(Done(number))
        here.channel.close()
        here.channel.close()
        await turns()
        assert not here.ended


@on_loop
async def test_the_receiver_may_close_the_channel() -> None:
    async with ends() as (here, there):

        def close(message: Message, fds: list[int]) -> None:
            there.channel.close()
            there.messages.append(message)

        there.channel._received = close
        for number in range(3):
            here.channel.send(Done(number))
        await eventually(lambda: here.ended)
        assert there.messages == [Done(0)]
        assert not there.ended


@on_loop
async def test_a_receiver_that_fails_misses_one_message_and_no_other() -> None:
    failures: list[object] = []
    loop = asyncio.get_running_loop()
    async with ends() as (here, there):
        usual = loop.get_exception_handler()
        loop.set_exception_handler(lambda _loop, context: failures.append(context["exception"]))

        def fail_once(message: Message, fds: list[int]) -> None:
            if not failures:
                raise ZeroDivisionError
            there.messages.append(message)

        there.channel._received = fail_once
        for number in range(3):
            here.channel.send(Done(number))
        await eventually(lambda: len(there.messages) == 2)
        loop.set_exception_handler(usual)
        assert [type(failure) for failure in failures] == [ZeroDivisionError]


@pytest.mark.parametrize("closer", [0, 1])
def test_nothing_is_left_open(closer: int) -> None:
    async def close() -> None:
        before = descriptors()
        async with ends() as both:
            both[closer].channel.close()
            await eventually(lambda: both[1 - closer].ended)
        assert descriptors().keys() == before.keys()

    on_loop(close)()


@on_loop
async def test_more_descriptors_than_a_packet_carries_arrive_with_their_message() -> None:
    ours, theirs = pair()
    here, there = End(), End()
    here.open(ours)
    there.open(theirs)
    with ExitStack() as files:
        fds = tuple(os.memfd_create(f"fd{number}") for number in range(2 * FDS_MAX + 1))
        for fd in fds:
            files.callback(os.close, fd)
        here.channel.send(Done(1), fds)
        here.channel.send(Done(2), fds[:1])
        await eventually(lambda: len(there.messages) == 2)
        assert there.messages == [Done(1), Done(2)]
        try:
            assert list(map(len, there.fds)) == [len(fds), 1]
            assert all(map(os.path.sameopenfile, there.fds[0], fds))
        finally:
            for fd in (*there.fds[0], *there.fds[1]):
                os.close(fd)
    here.channel.close()
    there.channel.close()


def test_descriptors_of_a_message_that_never_comes_are_closed() -> None:
    before = descriptors()
    assembler = Assembler()
    assert assembler.add(encode(More()), [os.memfd_create("first")]) is None
    with pytest.raises(ValueError, match="not a message"):
        assembler.add(b"[]", [os.memfd_create("second")])
    assert assembler.add(encode(More()), [os.memfd_create("third")]) is None
    assembler.close()
    assert descriptors() == before
