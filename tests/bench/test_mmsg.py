"""Batches over the machine's loopback, without root."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from epaird.bench.mmsg import Batch, enable_gro, enable_segmentation

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A sender and a receiver that are connected."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        sender.connect(receiver.getsockname())
        yield sender, receiver


def received(batch: Batch, receiver: socket.socket, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        found += batch.numbers(batch.receive(receiver, socket.MSG_DONTWAIT))
    return found


@pytest.mark.parametrize("size", [8, 9, 64, 1472])
def test_numbers_arrive(ends: Ends, size: int) -> None:
    sender, receiver = ends
    assert Batch(16, size).send(sender, 1000) == 16
    assert received(Batch(5, size), receiver, 16) == list(range(1000, 1016))


def test_each_datagram_is_separate(ends: Ends) -> None:
    sender, receiver = ends
    Batch(4, 100).send(sender, 7)
    lengths = [len(receiver.recv(2000)) for _ in range(4)]
    assert lengths == [100] * 4
    receiver.setblocking(False)
    with pytest.raises(BlockingIOError):
        receiver.recv(2000)


@pytest.mark.parametrize("join", [False, True])
def test_segments(ends: Ends, join: bool) -> None:
    sender, receiver = ends
    enable_segmentation(sender, 1472)
    if join:
        enable_gro(receiver)
    assert Batch(2, 1472, 44).send(sender, 0) == 88
    assert received(Batch(3, 1472, 44), receiver, 88) == list(range(88))


def test_nothing_pending(ends: Ends) -> None:
    assert Batch(4, 64).receive(ends[1], socket.MSG_DONTWAIT) == 0


def test_no_receiver(ends: Ends) -> None:
    sender, receiver = ends
    receiver.close()
    batch = Batch(1, 64)
    assert batch.send(sender, 0) == 1
    assert batch.send(sender, 1) in (0, 1)  # the refusal of the first may come with the second


def test_an_unconnected_socket_is_an_error() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unconnected, pytest.raises(OSError):  # noqa: PT011
        Batch(1, 64).send(unconnected, 0)


@pytest.mark.parametrize(("size", "segments"), [(7, 1), (100, 2), (0, 1)])
def test_no_room_for_numbers(size: int, segments: int) -> None:
    with pytest.raises(ValueError, match="no room for numbers"):
        Batch(1, size, segments)
