"""Bursts of which a cross-connect joins datagrams."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

import pytest

from epaird.ipc.counters import (
    COALESCED_DATAGRAMS,
    COALESCED_SUPERFRAMES,
    IN_FLIGHT,
    IPACKETS,
    JOINING,
    OPACKETS,
)
from tests.dataplane.conftest import Bench, frame
from tests.dataplane.datagrams import Datagram, segments

FIRST = [bytes(Datagram(bytes([number]) * 64, number=number)) for number in range(20)]
SECOND = [bytes(Datagram(bytes([number]) * 64, flow=1, number=number)) for number in range(30)]
OTHERS = [frame(b"1"), frame(b"2"), frame(b"3")]
BURST = [*FIRST, *OTHERS, *SECOND]


@pytest.fixture
def bench(make_bench: type[Bench]) -> Bench:
    """A cable whose first half's datagrams may be joined."""
    bench = make_bench()
    bench.ports[0].coalesce = True
    return bench


def singly(received: Sequence[bytes]) -> list[bytes]:
    """Return frames with super-frames as the kernel would segment them."""
    return [each for one in received for each in (segments(one) if one[1] else [one])]


def coalesced(bench: Bench) -> tuple[int, int]:
    """Return how many super-frames were counted, and the datagrams in them."""
    words = bench.ports[1].account.words
    return words[COALESCED_SUPERFRAMES], words[COALESCED_DATAGRAMS]


def packets(bench: Bench) -> tuple[int, int]:
    """Return how many frames were counted as transmitted and as delivered."""
    a, b = (port.account.words for port in bench.ports)
    return a[OPACKETS], b[IPACKETS]


def test_runs_of_datagrams_arrive_as_super_frames(bench: Bench) -> None:
    bench.owners[0].sends(*BURST)
    bench.loop()
    received = bench.owners[1].receives()
    assert singly(received) == BURST
    assert [bool(each[1]) for each in received] == [True, False, False, False, True]
    assert coalesced(bench) == (2, 50)
    assert packets(bench) == (53, 53)
    bench.check_ledger()


def test_only_datagrams_of_the_half_that_allows_it_are_joined(bench: Bench) -> None:
    bench.owners[1].sends(*FIRST)
    bench.loop()
    assert bench.owners[0].receives() == FIRST
    assert coalesced(bench) == (0, 0)


def recorded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, tuple[int, int, int]]]:
    """Return what a settlement would find in the ledger at each write of the next burst: the frames in
    flight, and for the super-frame that is being written, the writes and the frames before it and the
    datagrams in it."""
    found: list[tuple[int, tuple[int, int, int]]] = []
    words, fd = bench.ports[1].account.words, bench.ports[1].fd

    def recording(call: Callable[[int, object], int]) -> Callable[[int, object], int]:
        def wrapped(to: int, data: object) -> int:
            if to == fd:
                joining = words[JOINING]
                found.append((words[IN_FLIGHT], (joining >> 32, joining >> 16 & 0xFFFF, joining & 0xFFFF)))
            return call(to, data)

        return wrapped

    monkeypatch.setattr(os, "write", recording(os.write))  # type: ignore[arg-type]
    monkeypatch.setattr(os, "writev", recording(os.writev))  # type: ignore[arg-type]
    return found


def test_the_ledger_names_the_super_frame_before_it_is_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = recorded(bench, monkeypatch)
    bench.owners[0].sends(*BURST)
    bench.loop()
    first, second = (0, 0, 20), (4, 23, 30)
    assert found == [(53, first)] * 4 + [(53, second)]
    assert bench.ports[1].account.words[JOINING] == 0


def refuse(bench: Bench, monkeypatch: pytest.MonkeyPatch, number: int, error: int) -> None:
    """Have the kernel refuse a super-frame, the first being 0."""
    fd, writev, written = bench.ports[1].fd, os.writev, 0

    def refusing(to: int, buffers: Sequence[bytes]) -> int:
        nonlocal written
        if to == fd:
            written += 1
            if written == number + 1:
                raise OSError(error, os.strerror(error))
        return writev(to, buffers)

    monkeypatch.setattr(os, "writev", refusing)


@pytest.mark.parametrize(
    ("number", "joined", "joining"),
    [(0, (0, 0), (0, 0, 1)), (1, (1, 20), (4, 23, 1))],
)
def test_datagrams_of_a_super_frame_that_is_refused_arrive_singly(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    joined: tuple[int, int],
    joining: tuple[int, int, int],
) -> None:
    refuse(bench, monkeypatch, number, errno.EINVAL)
    found = recorded(bench, monkeypatch)
    bench.owners[0].sends(*BURST)
    bench.loop()
    received = bench.owners[1].receives()
    assert singly(received) == BURST
    assert sum(bool(each[1]) for each in received) == joined[0]
    assert coalesced(bench) == joined
    assert packets(bench) == (53, 53)
    assert found[-1][1] == joining, "frames that are written one by one are not being joined"
    assert bench.ports[1].account.words[JOINING] == 0
    bench.check_ledger()


@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_burst_whose_single_frames_find_no_room_waits_in_order(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """The device is full after the first super-frame and ``room`` of the frames behind it."""
    b = bench.ports[1]
    write, written = os.write, 0

    def filling(to: int, data: bytes) -> int:
        nonlocal written
        if to == b.fd:
            if written == room:
                raise BlockingIOError
            written += 1
        return write(to, data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", filling)
        bench.owners[0].sends(*BURST)
        bench.pipeline.transmit(bench.ports[0])
    assert singly(bench.owners[1].receives()) == BURST[: 20 + room]
    assert list(b.backlog) == BURST[20 + room :]
    assert coalesced(bench) == (1, 20)
    assert packets(bench) == (53, 20 + room)
    bench.check_ledger()
    bench.loop()
    assert bench.owners[1].receives() == BURST[20 + room :]
