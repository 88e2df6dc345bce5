from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from epaird.dataplane.burst import BURST_BYTES
from epaird.dataplane.port import DOWN_ERRORS, Port, reason
from epaird.ipc.counters import DOWN, LISTED, OACTIVE, PEER_DOWN, WRITE_ERROR
from epaird.ipc.ledger import SLOT_BYTES
from tests.dataplane.conftest import Owner, frame


@pytest.fixture
def owner() -> Iterator[Owner]:
    owner = Owner()
    yield owner
    owner.close()


@pytest.fixture
def port(owner: Owner) -> Port:
    return Port("epair0a", owner.device.fileno(), memoryview(bytearray(SLOT_BYTES)).cast("Q"))


def test_a_frame_is_read_into_a_buffer(port: Port, owner: Owner) -> None:
    buffer = memoryview(bytearray(2000))
    assert port.read(buffer) is None
    owner.sends(frame(b"x"))
    assert port.read(buffer) == len(frame(b"x"))
    assert buffer[: len(frame(b"x"))] == frame(b"x")


def test_a_frame_is_written(port: Port, owner: Owner) -> None:
    assert port.write(frame()) is None
    assert owner.receives() == [frame()]


def test_a_refused_frame_gives_the_reason(port: Port, owner: Owner) -> None:
    while (error := port.write(frame(bytes(1000)))) is None:
        pass
    assert isinstance(error, BlockingIOError)
    owner.end.close()
    error = port.write(frame())
    assert error is not None
    assert (error.errno, reason(error)) == (errno.ECONNREFUSED, WRITE_ERROR)
    with Path("/proc/self/mem").open("r+b", buffering=0) as down:
        port.fd = down.fileno()
        error = port.write(frame())
    assert error is not None
    assert (error.errno, reason(error)) == (errno.EIO, PEER_DOWN)
    assert errno.EIO in DOWN_ERRORS


def test_a_new_port_reads_single_frames_and_withholds_nothing_from_its_owner(port: Port) -> None:
    assert port.attached
    assert (port.limit, port.at_once, port.burst_bytes) == (0, 1, BURST_BYTES)
    assert (port.offload, port.pmtu, port.coalesce) == (True, True, False)


def test_a_device_is_down_when_it_is_recorded_and_cannot_be_written(port: Port, owner: Owner) -> None:
    words = port.account.words
    assert not port.down
    words[DOWN] = 1
    assert not port.down, "it takes frames"
    while port.write(frame(bytes(1000))) is None:
        pass
    assert port.down
    words[DOWN] = 0
    assert not port.down, "its buffer is full"
    words[DOWN] = 1
    owner.receives()
    assert not port.down


def test_a_device_that_only_reports_errors_is_down(port: Port) -> None:
    reader, writer = os.pipe()
    os.close(writer)
    port.fd = reader
    port.account.words[DOWN] = 1
    assert port.down
    os.close(reader)


def test_a_device_that_comes_up_while_it_is_examined_is_not_down(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is cleared between the look at it and poll(), which still finds the device down."""
    poll = select.poll

    class Late:
        def __init__(self) -> None:
            self._poll = poll()
            port.account.words[DOWN] = 0

        def register(self, fd: int, events: int) -> None:
            self._poll.register(fd, events)

        def poll(self, timeout_ms: int) -> list[tuple[int, int]]:
            return self._poll.poll(timeout_ms)

    while port.write(frame(bytes(1000))) is None:
        pass
    port.account.words[DOWN] = 1
    monkeypatch.setattr(select, "poll", Late)
    assert not port.down


def test_the_drain_list_holds_one_reference(port: Port) -> None:
    assert (port.refs, port.listed, port.oactive) == (1, False, False)
    for _ in range(2):
        port.mark_listed(True)
        assert (port.refs, port.listed, port.account.words[LISTED]) == (2, True, 1)
    for _ in range(2):
        port.mark_listed(False)
        assert (port.refs, port.listed, port.account.words[LISTED]) == (1, False, 0)


def test_oactive_is_recorded_without_a_reference(port: Port) -> None:
    port.mark_oactive(True)
    assert (port.refs, port.oactive, port.account.words[OACTIVE]) == (1, True, 1)
    port.mark_oactive(False)
    assert (port.refs, port.oactive, port.account.words[OACTIVE]) == (1, False, 0)


def test_a_port_leaves_its_descriptor_open(owner: Owner) -> None:
    port = Port("epair0a", owner.device.fileno(), memoryview(bytearray(SLOT_BYTES)).cast("Q"))
    assert repr(port) == "<Port epair0a refs=1>"
    del port
    os.fstat(owner.device.fileno())
