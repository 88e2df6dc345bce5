from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from epaird.ipc.channel import FDS_MAX, PACKETS_AT_ONCE, Assembler, Channel, packets, receive
from epaird.ipc.encoding import InvalidMessage, encode
from epaird.ipc.messages import Done, Gone, Message, More
from tests.loop import descriptors, on_loop, turns
from tests.waiting import eventually


@dataclass
class End:
    """One end: its channel, and the messages and descriptors that it has received."""

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
    """Two connected ends."""
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
    async with ends() as (near, far):
        for number in range(5):
            near.channel.send(Done(number))
            far.channel.send(Gone("epair0", str(number)))
        await eventually(lambda: len(near.messages) == len(far.messages) == 5)
        assert far.messages == [Done(number) for number in range(5)]
        assert near.messages == [Gone("epair0", str(number)) for number in range(5)]


@on_loop
async def test_more_messages_than_the_kernel_takes_at_once_neither_block_nor_get_lost() -> None:
    """The socket's buffer holds some hundred of them."""
    connection, other = pair()
    with other:
        near = End()
        near.open(connection)
        for number in range(1000):
            near.channel.send(Done(number))
        await turns()
        far = End()
        far.open(other)
        await eventually(lambda: len(far.messages) == 1000)
        assert far.messages == [Done(number) for number in range(1000)]
        near.channel.send(Done(1000))
        await eventually(lambda: far.messages[-1] == Done(1000))
        for end in (near, far):
            end.channel.close()


@on_loop
async def test_a_channel_with_nothing_to_send_keeps_the_loop_asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    flush = Channel._flush
    flushes: list[Channel] = []

    def recording(channel: Channel) -> None:
        flushes.append(channel)
        flush(channel)

    monkeypatch.setattr(Channel, "_flush", recording)
    connection, other = pair()
    with other:
        near = End()
        near.open(connection)
        for number in range(1000):
            near.channel.send(Done(number))
        flushes.clear()
        far = End()
        far.open(other)
        await eventually(lambda: len(far.messages) == 1000)
        await turns()
        assert flushes, "not all fitted the buffer at once"
        flushes.clear()
        await turns(20)
        assert not flushes, "polled for room all the time"
        for end in (near, far):
            end.channel.close()


@on_loop
async def test_descriptors_come_with_their_message_and_are_close_on_exec() -> None:
    async with ends() as (near, far):
        with closing(socket.socket(socket.AF_UNIX)) as one, closing(socket.socket(socket.AF_UNIX)) as other:
            files = [descriptors()[each.fileno()] for each in (one, other)]
            for each in (one, other):
                os.set_inheritable(each.fileno(), True)
            near.channel.send(Done(1))
            near.channel.send(Done(2), (one.fileno(), other.fileno()))
            near.channel.send(Done(3), (other.fileno(),))
            await eventually(lambda: len(far.messages) == 3)
        assert [len(fds) for fds in far.fds] == [0, 2, 1]
        for fds, expected in zip(far.fds, ([], files, files[1:]), strict=True):
            assert [descriptors()[fd] for fd in fds] == list(expected)
            assert all(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for fd in fds)


@on_loop
async def test_descriptors_of_messages_that_wait_arrive_too() -> None:
    connection, other = pair()
    with other, closing(socket.socket(socket.AF_UNIX)) as passed:
        near, far = End(), End()
        near.open(connection)
        for number in range(50):
            near.channel.send(Done(number), (passed.fileno(),))
        far.open(other)
        await eventually(lambda: len(far.messages) == 50)
        assert all(len(fds) == 1 for fds in far.fds)
        for fds in far.fds:
            os.close(fds[0])
        for end in (near, far):
            end.channel.close()


@on_loop
async def test_the_close_of_the_other_end_is_reported_once_after_its_messages() -> None:
    async with ends() as (near, far):
        near.channel.send(Done(1))
        near.channel.send(Done(2))
        near.channel.close()
        await eventually(lambda: far.ended)
        assert far.messages == [Done(1), Done(2)]
        far.channel.send(Done(3))
        await turns()
        far.channel.close()
        assert (far.ended, near.ended) == (1, 0)


@on_loop
async def test_the_close_of_an_end_with_unread_messages_is_reported_too() -> None:
    connection, other = pair()
    near = End()
    near.open(connection)
    near.channel.send(Done(1))
    other.close()  # ECONNRESET at the near end
    await eventually(lambda: near.ended)
    await turns()
    assert near.ended == 1


@on_loop
async def test_sending_to_a_closed_end_does_nothing() -> None:
    connection, other = pair()
    near = End()
    near.open(connection)
    other.close()
    for number in range(100):
        near.channel.send(Done(number))
    await eventually(lambda: near.ended)
    near.channel.send(Done(100))
    await turns()


@on_loop
async def test_the_close_of_an_end_while_messages_wait_is_reported() -> None:
    connection, other = pair()
    near = End()
    near.open(connection)
    for number in range(1000):
        near.channel.send(Done(number))
    other.close()
    await eventually(lambda: near.ended)
    near.channel.close()


@on_loop
async def test_closing_drops_what_waits_and_may_be_done_twice() -> None:
    connection, other = pair()
    with other:
        near = End()
        near.open(connection)
        for number in range(1000):
            near.channel.send(Done(number))
        near.channel.close()
        near.channel.close()
        await turns()
        assert not near.ended


@on_loop
async def test_the_receiver_may_close_the_channel() -> None:
    async with ends() as (near, far):

        def close(message: Message, fds: list[int]) -> None:
            far.channel.close()
            far.messages.append(message)

        far.channel._received = close
        for number in range(3):
            near.channel.send(Done(number))
        await eventually(lambda: near.ended)
        assert far.messages == [Done(0)]
        assert not far.ended


@on_loop
async def test_a_receiver_that_fails_loses_one_message_and_no_other() -> None:
    failures: list[object] = []
    loop = asyncio.get_running_loop()
    async with ends() as (near, far):
        usual = loop.get_exception_handler()
        loop.set_exception_handler(lambda _loop, context: failures.append(context["exception"]))

        def fail_once(message: Message, fds: list[int]) -> None:
            if not failures:
                raise ZeroDivisionError
            far.messages.append(message)

        far.channel._received = fail_once
        for number in range(3):
            near.channel.send(Done(number))
        await eventually(lambda: len(far.messages) == 2)
        loop.set_exception_handler(usual)
        assert [type(failure) for failure in failures] == [ZeroDivisionError]


@on_loop
async def test_a_sender_of_many_messages_does_not_keep_the_loop_busy() -> None:
    connection, other = pair()
    taken: list[int] = []
    with other:
        far = End()

        def received(message: Message, fds: list[int]) -> None:
            if not far.messages:
                asyncio.get_running_loop().call_soon(lambda: taken.append(len(far.messages)))
            far.received(message, fds)

        for number in range(PACKETS_AT_ONCE + 10):
            other.send(encode(Done(number)))
        far.channel = Channel(connection, received, far.has_ended)
        await eventually(lambda: len(far.messages) == PACKETS_AT_ONCE + 10)
        far.channel.close()
    assert taken == [PACKETS_AT_ONCE]


@pytest.mark.parametrize(
    ("packet", "passed", "reason"),
    [
        (b"[]", 0, "not a message: not an object"),
        (encode(Done(1)), 1, "a message has more than 0 descriptors"),
        (encode(Done(2)), 0, "number 2 is refused"),
    ],
)
@on_loop
async def test_a_channel_closes_at_the_first_message_that_is_refused(
    packet: bytes, passed: int, reason: str
) -> None:
    """By the channel, for what the packet is, or by the receiver, for what the message says."""

    def refuse(message: Message, fds: list[int]) -> None:
        if message == Done(2):
            raise InvalidMessage("number 2 is refused")

    connection, other = pair()
    refused: list[InvalidMessage] = []
    near = End()
    near.channel = Channel(connection, refuse, near.has_ended, refused.append, most=0)
    with other:
        for _ in range(2):
            socket.send_fds(other, [packet], [other.fileno()] * passed)
        await eventually(lambda: refused)
        await turns()
        assert [str(each) for each in refused] == [reason]
        assert connection.fileno() == -1
        assert not near.ended


@on_loop
async def test_a_refused_message_is_an_unexpected_exception_where_nothing_is_to_be_refused() -> None:
    failures: list[object] = []
    loop = asyncio.get_running_loop()
    usual = loop.get_exception_handler()
    loop.set_exception_handler(lambda _loop, context: failures.append(context["exception"]))
    connection, other = pair()
    near = End()
    near.open(connection)
    with other:
        other.send(b"[]")
        other.send(encode(Done(1)))
        await eventually(lambda: near.messages)
        near.channel.close()
    loop.set_exception_handler(usual)
    assert [type(failure) for failure in failures] == [InvalidMessage]


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
    connection, other = pair()
    near, far = End(), End()
    near.open(connection)
    far.open(other)
    with ExitStack() as files:
        fds = tuple(os.memfd_create(f"fd{number}") for number in range(2 * FDS_MAX + 1))
        for fd in fds:
            files.callback(os.close, fd)
        near.channel.send(Done(1), fds)
        near.channel.send(Done(2), fds[:1])
        await eventually(lambda: len(far.messages) == 2)
        assert far.messages == [Done(1), Done(2)]
        try:
            assert list(map(len, far.fds)) == [len(fds), 1]
            assert all(map(os.path.sameopenfile, far.fds[0], fds))
        finally:
            for fd in (*far.fds[0], *far.fds[1]):
                os.close(fd)
    near.channel.close()
    far.channel.close()


def test_descriptors_of_a_message_that_never_comes_are_closed() -> None:
    before = descriptors()
    assembler = Assembler()
    assert assembler.add(encode(More()), [os.memfd_create("first")]) is None
    with pytest.raises(ValueError, match="not a message"):
        assembler.add(b"[]", [os.memfd_create("second")])
    assert descriptors() == before
    assert assembler.add(encode(More()), [os.memfd_create("third")]) is None
    assembler.close()
    assert descriptors() == before


def test_a_message_has_as_many_descriptors_as_it_may_have_and_no_packet_of_it_is_without() -> None:
    before = descriptors()
    assembler = Assembler(2)
    assert assembler.add(encode(More()), [os.memfd_create("first")]) is None
    complete = assembler.add(encode(Done(1)), [os.memfd_create("second")])
    assert complete is not None
    assert (complete[0], len(complete[1])) == (Done(1), 2)
    for fd in complete[1]:
        os.close(fd)
    assert assembler.add(encode(More()), [os.memfd_create("first"), os.memfd_create("second")]) is None
    with pytest.raises(InvalidMessage, match=r"^a message has more than 2 descriptors$"):
        assembler.add(encode(Done(1)), [os.memfd_create("third")])
    assert assembler.add(encode(More()), [os.memfd_create("first")]) is None
    with pytest.raises(InvalidMessage, match=r"^a message that carries descriptors has none$"):
        assembler.add(encode(More()), [])
    assert descriptors() == before


def test_the_descriptors_of_an_empty_packet_are_closed() -> None:
    near, far = pair()
    with near, far, Path(os.devnull).open() as file:
        socket.send_fds(near, [b""], [file.fileno()])
        before = descriptors()
        assert receive(far) == (b"", [])
        assert descriptors() == before


@on_loop
async def test_a_channel_that_closes_closes_the_descriptors_of_an_unfinished_message() -> None:
    connection, other = pair()
    near = End()
    near.open(connection)
    file = os.memfd_create("passed")
    with other:
        before = descriptors()
        socket.send_fds(other, [encode(More())], [file])
        await eventually(lambda: len(descriptors()) == len(before) + 1)
        near.channel.close()
        assert len(descriptors()) == len(before) - 1
    os.close(file)


@pytest.mark.parametrize("count", [0, 1, FDS_MAX, FDS_MAX + 1, 2 * FDS_MAX, 2 * FDS_MAX + 1])
def test_as_many_descriptors_travel_in_a_packet_as_the_kernel_takes(count: int) -> None:
    made = list(packets(Done(1), range(count)))
    assert [fd for _, fds in made for fd in fds] == list(range(count))
    assert [len(fds) for _, fds in made[:-1]] == [FDS_MAX] * (max(0, count - 1) // FDS_MAX)
    assert [packet for packet, _ in made] == [encode(More())] * (len(made) - 1) + [encode(Done(1))]
    near, far = pair()
    with near, far, Path(os.devnull).open() as file:
        socket.send_fds(near, [b"x"], [file.fileno()] * FDS_MAX)
        _, received = receive(far)
        for fd in received:
            os.close(fd)
        assert len(received) == FDS_MAX
        with pytest.raises(OSError, match="Invalid argument"):
            socket.send_fds(near, [b"x"], [file.fileno()] * (FDS_MAX + 1))
