"""Datagrams received by one system call."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Final

import pytest

from epaird.kernel.recvmmsg import ReceiveBatch

IP_RECVTTL: Final = 12
"""linux/in.h; Python does not have it."""


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with first, second:
        yield first, second


def received(batch: ReceiveBatch, end: socket.socket) -> list[bytes]:
    return [bytes(batch.buffer[start:stop]) for start, stop in batch.spans(batch.receive(end.fileno()))]


def test_datagrams_are_received_together_and_in_order(ends: tuple[socket.socket, socket.socket]) -> None:
    batch = ReceiveBatch(3, 8)
    for number in range(5):
        ends[0].send(bytes([number]) * (number + 1))
    assert received(batch, ends[1]) == [bytes([number]) * (number + 1) for number in range(3)]
    assert received(batch, ends[1]) == [b"\x03" * 4, b"\x04" * 5]
    assert received(batch, ends[1]) == []


def test_the_rest_of_a_long_datagram_is_left_out(ends: tuple[socket.socket, socket.socket]) -> None:
    batch = ReceiveBatch(2, 4)
    ends[0].send(b"abcdefgh")
    ends[0].send(b"xy")
    assert received(batch, ends[1]) == [b"abcd", b"xy"]


def test_control_messages_are_those_of_their_datagram() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        end.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            for ttl in (7, 9):
                other.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
                other.sendto(b"x", end.getsockname())
        batch = ReceiveBatch(4, 16)
        assert batch.receive(end.fileno()) == 2
        ttls = [batch.control(number, socket.IPPROTO_IP, socket.IP_TTL) for number in range(2)]
        assert ttls == [7, 9]
        assert batch.control(2, socket.IPPROTO_IP, socket.IP_TTL) is None
        assert batch.control(0, socket.SOL_SOCKET, socket.IP_TTL) is None


def test_an_error_is_raised() -> None:
    with pytest.raises(OSError, match="Bad file descriptor") as raised:
        ReceiveBatch(1, 4).receive(-1)
    assert raised.value.errno == errno.EBADF
