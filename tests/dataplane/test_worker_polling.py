"""When a worker reads a device, waits for room in one, restarts blocked ports, and polls again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace

import pytest

from epaird.dataplane import worker as worker_module
from epaird.dataplane.port import Port
from epaird.ipc.counters import DOWN, FLUSHED, HEARTBEAT_NS, IN_FLIGHT, LISTED, OERRORS
from epaird.ipc.messages import (
    Attach,
    CableKind,
    CableSpec,
    Done,
    Gone,
    Message,
    Overflow,
    PortSpec,
    Tune,
    Unknown,
)
from tests.dataplane.conftest import Owner, frame
from tests.dataplane.control import Control, receives, worker
from tests.loop import on_loop, turns
from tests.waiting import eventually


def port_of(control: Control, name: str) -> Port:
    (port,) = (each for each in control.worker._cable_of if each.name == name)
    return port


def reports(control: Control, kind: type[Message]) -> list[Message]:
    return [each for each in control.received if isinstance(each, kind)]


async def block(control: Control, name: str, slot: int) -> int:
    """Send until the port is on a drain list; return how many frames were sent."""
    sent = 0
    while not control.words(slot)[LISTED]:
        with suppress(BlockingIOError):
            control.owners[name].sends(frame())
            sent += 1
        await asyncio.sleep(0)
    return sent


async def unblock(control: Control, name: str, slot: int) -> None:
    """Receive until the peer is on no drain list."""

    def unblocked() -> bool:
        control.owners[name].receives()
        return not control.words(slot)[LISTED]

    await eventually(unblocked)


@on_loop
async def test_each_port_that_is_read_again_updates_the_heartbeat() -> None:
    """A drain list may be so long that its walk takes longer than a heartbeat may."""
    async with worker() as control:
        control.attach()
        port = port_of(control, "epair0a")
        control.words(0)[HEARTBEAT_NS] = 0
        control.worker.start_reading(port)
        assert control.words(0)[HEARTBEAT_NS] > 0


@on_loop
async def test_a_port_that_is_not_blocked_is_not_reported_when_its_reading_stops() -> None:
    async with worker() as control:
        control.attach()
        await control.answered(control.pause())
        await control.answered(control.detach())
        assert not reports(control, Overflow)


@on_loop
async def test_a_port_that_is_blocked_again_at_once_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "OVERFLOW_S", 3600)
    async with worker(queue_limit=2) as control:
        control.attach()
        for _ in range(2):
            await block(control, "epair0a", 1)
            await unblock(control, "epair0b", 1)
        assert reports(control, Overflow) == [Overflow(True, "epair0a")]


@on_loop
async def test_a_port_is_reported_each_time_that_it_is_no_longer_blocked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_module, "OVERFLOW_S", 0)
    async with worker(queue_limit=2) as control:
        control.attach()
        expected = []
        for _ in range(2):
            await block(control, "epair0a", 1)
            await turns(20)  # which check that it still is
            expected.append(Overflow(True, "epair0a"))
            assert reports(control, Overflow) == expected
            await unblock(control, "epair0b", 1)
            expected.append(Overflow(False, "epair0a"))
            await eventually(lambda: expected[-1] in reports(control, Overflow)[len(expected) - 1 :])
            await turns(20)
            assert reports(control, Overflow) == expected


@on_loop
async def test_ports_are_restarted_once_in_a_turn_however_many_receivers_have_drained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with worker() as control:
        restarts = []
        monkeypatch.setattr(
            control.worker, "_pipeline", SimpleNamespace(restart=lambda: restarts.append("restart"))
        )
        monkeypatch.setattr(control.worker, "_queue", SimpleNamespace(restart_due=True))
        for count in (1, 2):
            control.worker.await_restart()
            control.worker.await_restart()
            await turns()
            assert len(restarts) == count
        monkeypatch.setattr(control.worker, "_queue", SimpleNamespace(restart_due=False))
        control.worker.await_restart()
        await turns()
        assert len(restarts) == 2


@on_loop
async def test_a_listed_port_whose_device_vanished_is_not_read_again_when_it_is_restarted() -> None:
    async with worker(queue_limit=2) as control:
        control.attach()
        await block(control, "epair0a", 1)
        reads = 0

        def gone(_buffer: memoryview) -> int | None:
            nonlocal reads
            reads += 1
            raise OSError(77, "File descriptor in bad state")

        port_of(control, "epair0a").read = gone
        await unblock(control, "epair0b", 1)
        await turns(20)
        assert reads == 1
        assert reports(control, Gone) == [Gone("epair0", "epair0a")]


@pytest.mark.parametrize("exhausted", [True, False])
@pytest.mark.parametrize("forwarded", [True, False])
@on_loop
async def test_polling_begins_when_no_more_is_to_be_read_and_the_time_for_it_has_come(
    monkeypatch: pytest.MonkeyPatch, *, forwarded: bool, exhausted: bool
) -> None:
    async with worker() as control:
        control.attach()
        port = port_of(control, "epair0a")
        begun, times, yields = False, list[int](), 0
        answers: Iterator[bool] = iter((True, True, False))

        def offer() -> None:
            nonlocal yields
            yields += 1

        def begins(now_ns: int) -> bool:
            nonlocal begun
            begun = True
            times.append(now_ns)
            return forwarded

        def again(now_ns: int) -> bool:
            times.append(now_ns)
            return next(answers)

        monkeypatch.setattr(os, "sched_yield", offer)
        monkeypatch.setattr(control.worker, "_spin", SimpleNamespace(forwarded=begins, poll_again=again))
        real = port.forwarding
        monkeypatch.setattr(port, "forwarding", SimpleNamespace(exchange=lambda _port: exhausted))
        control.worker.stop_reading(port)
        control.words(0)[HEARTBEAT_NS] = 0
        control.worker._readable(port)
        await turns(20)
        monkeypatch.setattr(port, "forwarding", real)
        assert control.words(0)[HEARTBEAT_NS] > 0
        assert begun == exhausted
        assert yields == (3 if exhausted and forwarded else 0), "it offers the core before each poll"
        assert times == sorted(times)


@on_loop
async def test_waiting_frames_are_delivered_when_the_device_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "RETRY_S", 3600)
    async with worker() as control:
        control.attach()
        await control.fill()
        b = control.owners["epair0b"]
        await eventually(lambda: (b.receives(), not control.words(2)[IN_FLIGHT])[1])


@on_loop
async def test_a_device_that_has_taken_all_is_not_waited_for_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_module, "RETRY_S", 0.005)
    async with worker() as control:
        control.attach()
        await control.fill()
        b = control.owners["epair0b"]
        await eventually(lambda: (b.receives(), not control.words(2)[IN_FLIGHT])[1])
        resumed: list[Port] = []
        monkeypatch.setattr(control.worker._pipeline, "resume", resumed.append)
        later = asyncio.Event()
        asyncio.get_running_loop().call_later(2 * worker_module.RETRY_S, later.set)
        await later.wait()  # any timer that was left has expired by then
        assert not resumed


@on_loop
async def test_a_blocked_sender_that_is_down_is_flushed_while_its_receiver_takes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_module, "RETRY_S", 0.005)
    async with worker(queue_limit=2) as control:
        control.attach()
        await block(control, "epair0a", 1)
        a = control.owners["epair0a"]
        with suppress(BlockingIOError):
            a.sends(frame())
        control.words(1)[DOWN] = 1
        port = port_of(control, "epair0a")
        with suppress(BlockingIOError):  # its device does not poll as writable, as a TAP that is down
            while True:
                os.write(port.fd, frame())
        await eventually(lambda: control.words(1)[OERRORS + FLUSHED])
        assert not control.words(1)[LISTED]
        control.words(1)[DOWN] = 0
        await receives(a, 1)


@on_loop
async def test_requests_set_how_long_to_poll_and_whether_datagrams_are_joined() -> None:
    async with worker(poll_spin_us=10) as control:
        control.worker.handle(Tune(1, queue_limit=9, poll_spin_us=50, orphan_timeout=0), [])
        assert control.worker._spin._spin_ns == 50_000
        for coalesce in (True, False):
            name = f"lo{coalesce:d}"
            owner = control.owners[name] = Owner()
            spec = CableSpec(name, (PortSpec(name, 1 + coalesce, 1500),), CableKind.REFLECT, coalesce)
            control.worker.handle(Attach(2, spec), [os.dup(owner.device.fileno())])
            assert port_of(control, name).coalesce is coalesce


@on_loop
async def test_an_unknown_request_is_refused_and_its_descriptors_are_closed() -> None:
    async with worker() as control:
        fd = os.dup(control.table.fd)
        control.worker.handle(Unknown("Teleport", 7), [fd])
        assert control.received == [Done(7, "unknown request Teleport")]
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


@on_loop
async def test_the_patience_of_another_control_plane_replaces_the_first() -> None:
    async with worker() as control:
        control.attach()
        await control.fill()
        ports = (port_of(control, "epair0a"), port_of(control, "epair0b"))
        control.detach(patience=0.005)
        control.detach(patience=3600)
        assert not any(port.attached for port in ports), "neither is read any more"
        expired = asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, expired.set)
        await expired.wait()  # the first one would have given up by now
        assert control.words(2)[IN_FLIGHT]


@on_loop
async def test_nothing_is_left_of_a_cable_when_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "RETRY_S", 3600)
    async with worker() as control:
        control.attach()
        await control.fill()
        await control.answered(control.detach(patience=0.005))
        assert not control.worker._awaiting_room
        assert not control.worker._cable_of
