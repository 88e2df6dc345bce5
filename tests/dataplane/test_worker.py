"""The worker on a real loop, given socketpairs for devices."""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import os
import resource
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
from scapy.layers.inet import IP

from epaird.dataplane import worker as worker_module
from epaird.dataplane.burst import BURST_FRAMES
from epaird.dataplane.reflector import Reflector
from epaird.dataplane.segmenting import segment
from epaird.dataplane.sink import Sink
from epaird.dataplane.worker import WorkerLoop
from epaird.ipc import counters
from epaird.ipc.counters import (
    ADDED_SEGMENTS,
    IERRORS,
    IN_FLIGHT,
    IPACKETS,
    LISTED,
    OACTIVE,
    OPACKETS,
    WRITE_ERROR,
)
from epaird.ipc.messages import (
    Attach,
    CableKind,
    CableSpec,
    Detach,
    Done,
    Gone,
    Overflow,
    Ping,
    PortSpec,
    Ready,
    Start,
    Tune,
    UnknownFamily,
)
from tests.dataplane.conftest import Owner, frame
from tests.dataplane.control import MTUS, receives, worker
from tests.dataplane.superframes import Offloaded
from tests.loop import on_loop, turns
from tests.waiting import eventually


@on_loop
async def test_frames_cross_as_they_come() -> None:
    async with worker() as control:
        await control.answered(control.attach())
        a, b = control.owners["epair0a"], control.owners["epair0b"]
        sent = [frame(b"%d" % number) for number in range(200)]
        for each in sent:
            a.sends(each)
            await asyncio.sleep(0)
        assert await receives(b, 200) == sent
        assert control.words(1)[OPACKETS] == control.words(2)[IPACKETS] == 200


@on_loop
async def test_frames_cross_while_the_loop_spins_and_then_it_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    async with worker(poll_spin_us=1000) as control:
        polls: list[bool] = []
        spin = control.worker._spin

        def poll_again(now_ns: int) -> bool:
            polls.append(spin.poll_again(now_ns))
            return polls[-1]

        watched = SimpleNamespace(forwarded=spin.forwarded, poll_again=poll_again)
        monkeypatch.setattr(control.worker, "_spin", watched)
        control.attach()
        a, b = control.owners["epair0a"], control.owners["epair0b"]
        for _ in range(20):
            a.sends(frame())
            await eventually(b.receives)
        await eventually(lambda: polls and not polls[-1])
        before = len(polls)
        await turns(20)
        assert len(polls) == before


@on_loop
async def test_a_burst_for_an_owner_without_offloads_ends_with_a_super_frame() -> None:
    """So its quota is exceeded by the segments of one, however many were sent."""
    superframe = bytes(Offloaded(bytes(60_000), gso_size=1400))
    segments = len(segment(superframe))
    async with worker(queue_limit=BURST_FRAMES) as control:
        control.attach(offloads=(True, False))
        a, b = control.owners["epair0a"], control.owners["epair0b"]
        await control.fill()
        sent = 0
        while not control.words(1)[OACTIVE]:
            with suppress(BlockingIOError):
                while True:
                    a.sends(superframe)
                    sent += 1
            await turns()
        assert BURST_FRAMES <= control.words(2)[IN_FLIGHT] < BURST_FRAMES + segments
        received: list[bytes] = []

        def complete() -> bool:
            received.extend(each for each in b.receives() if len(each) > len(frame()))
            return len(received) >= sent * segments

        await eventually(complete)
        assert received == segment(superframe) * sent
        assert control.words(2)[ADDED_SEGMENTS] == sent * (segments - 1)


@on_loop
async def test_a_cable_is_detached_when_its_receiver_has_taken_all_frames() -> None:
    async with worker() as control:
        control.attach()
        await control.fill()
        waiting = control.words(2)[IN_FLIGHT]
        request = control.detach()
        await turns(20)
        assert Done(request) not in control.received
        b = control.owners["epair0b"]
        received = []
        while Done(request) not in control.received:
            received += b.receives()
            await asyncio.sleep(0)
        received += b.receives()
        assert waiting
        assert len(received) == control.words(1)[OPACKETS] == control.words(2)[IPACKETS]


@on_loop
async def test_after_patience_waiting_frames_are_dropped_and_counted() -> None:
    async with worker() as control:
        control.attach()
        await control.fill()
        waiting = control.words(2)[IN_FLIGHT]
        await control.answered(control.detach(patience=0.01))
        assert control.words(2)[IERRORS + WRITE_ERROR] == waiting
        assert control.words(2)[IN_FLIGHT] == control.words(0)[counters.QUEUE_FRAMES] == 0


@on_loop
async def test_a_cable_that_is_being_detached_is_not_read() -> None:
    async with worker() as control:
        control.attach()
        await control.fill()
        control.detach()
        sent = control.words(1)[OPACKETS]
        with suppress(BlockingIOError):
            control.owners["epair0a"].sends(frame())
        await turns(20)
        assert control.words(1)[OPACKETS] == sent
        control.owners["epair0b"].receives()
        await eventually(lambda: not control.worker._cables)


@on_loop
async def test_a_kept_cable_is_not_read_and_is_reported_until_it_is_detached() -> None:
    async with worker() as control:
        control.attach()
        await control.answered(control.keep())
        ((about, fds),) = control.worker.attached()
        assert (about.cable.name, about.cable.kind, len(fds)) == ("epair0", CableKind.KEPT, 2)
        owner = control.owners["epair0a"]
        owner.sends(frame())
        await turns(20)
        assert control.words(1)[OPACKETS] == 0
        await control.answered(control.keep(), "epair0 is not attached")
        owner.device.close()
        owner.sends(frame())
        await control.answered(control.detach())
        assert not control.reported()
        with pytest.raises(ConnectionRefusedError):
            owner.sends(frame())


@on_loop
async def test_a_kept_cable_is_forgotten_when_it_is_attached_again() -> None:
    async with worker() as control:
        control.attach()
        await control.answered(control.keep())
        await control.answered(control.attach())
        assert control.reported() == {"epair0": CableKind.CABLE}
        assert not control.worker._kept


@on_loop
async def test_a_cable_that_is_being_detached_is_reported_if_it_is_to_be_kept() -> None:
    async with worker() as control:
        control.attach()
        await control.fill()
        control.keep()
        assert control.reported() == {"epair0": CableKind.KEPT}
        # Another control plane has less patience, and does not keep it.
        request = control.detach(patience=0.01)
        assert not control.reported()
        await control.answered(request)
        assert not control.worker._kept


@on_loop
async def test_detaching_closes_descriptors_and_is_answered_once() -> None:
    async with worker() as control:
        for _ in range(3):
            control.attach()
            request = control.detach()
            await turns()
            assert control.received.count(Done(request)) == 1
        owner = control.owners["epair0a"]
        owner.device.close()
        with pytest.raises(ConnectionRefusedError):
            owner.end.send(b"no process has it open")


@on_loop
async def test_a_blocked_sender_is_restarted_when_the_queue_has_drained() -> None:
    async with worker(queue_limit=3) as control:
        control.attach()
        a, b = control.owners["epair0a"], control.owners["epair0b"]
        sent = 0
        while not control.words(1)[LISTED]:
            with suppress(BlockingIOError):
                a.sends(frame())
                sent += 1
            await asyncio.sleep(0)
        assert len(await receives(b, sent)) == sent
        await eventually(lambda: not control.words(1)[LISTED])
        a.sends(frame(b"again"))
        await eventually(lambda: frame(b"again") in b.receives())


@on_loop
async def test_a_listed_cable_leaves_the_drain_list_when_it_is_detached() -> None:
    async with worker(queue_limit=2) as control:
        control.attach()
        control.attach("epair1")
        a, other = control.owners["epair0a"], control.owners["epair1a"]
        while not (control.words(1)[LISTED] and control.words(3)[LISTED]):
            for owner in (a, other):
                with suppress(BlockingIOError):
                    owner.sends(frame())
            await asyncio.sleep(0)
        await control.answered(control.detach(patience=0))
        assert not control.words(1)[LISTED]
        assert control.words(3)[LISTED]
        await eventually(lambda: (control.owners["epair1b"].receives(), not control.words(3)[LISTED])[1])


@on_loop
async def test_a_blocked_port_is_reported_by_name_and_when_it_is_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_module, "OVERFLOW_S", 0.005)
    async with worker(queue_limit=2) as control:
        control.attach()
        control.attach("epair1")
        for name, slot in (("epair0a", 1), ("epair1a", 3)):
            while not control.words(slot)[LISTED]:
                with suppress(BlockingIOError):
                    control.owners[name].sends(frame())
                await asyncio.sleep(0)
        control.owners["epair1b"].receives()
        await eventually(lambda: Overflow(False, "epair1a") in control.received)
        reports = [each for each in control.received if isinstance(each, Overflow)]
        assert reports == [Overflow(True, "epair0a"), Overflow(True, "epair1a"), Overflow(False, "epair1a")]


@on_loop
async def test_a_device_that_vanished_is_reported_once_and_not_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with worker() as control:
        control.attach()
        control.attach("epair1")
        reads = 0
        port = control.worker._cables["epair0"].ports[0]

        def gone(_buffer: memoryview) -> int | None:
            nonlocal reads
            reads += 1
            raise OSError(77, "File descriptor in bad state")

        port.read = gone
        control.owners["epair0a"].sends(frame(), frame())
        await eventually(lambda: Gone("epair0", "epair0a") in control.received)
        await turns(20)
        assert control.received.count(Gone("epair0", "epair0a")) == 1
        assert reads == 1
        control.owners["epair1a"].sends(frame())
        await eventually(lambda: control.owners["epair1b"].receives())
        await control.answered(control.detach())


@on_loop
async def test_a_new_mtu_applies_from_then_on() -> None:
    async with worker() as control:
        control.attach()
        a, b = control.owners["epair0a"], control.owners["epair0b"]
        large = frame(bytes(2000))
        a.sends(large)
        await eventually(lambda: sum(control.words(1)[counters.OERRORS : counters.IERRORS]))
        await control.answered(control.resize((9000, 9000)))
        a.sends(large)
        await eventually(lambda: large in b.receives())
        ((about, _),) = control.worker.attached()
        assert about.cable.mtus == (9000, 9000), "the next control plane is told so"


@on_loop
async def test_a_receiver_that_went_down_while_frames_waited_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_module, "RETRY_S", 0.005)
    async with worker() as control:
        control.attach()
        await control.fill()
        target = control.worker._cables["epair0"].ports[1]
        with open("/proc/self/mem", "r+b", buffering=0) as down:  # noqa: ASYNC230, PTH123
            up, target.fd = target.fd, os.dup(down.fileno())  # fails with EIO, as a TAP that is down
            asyncio.get_running_loop().remove_writer(up)
            await eventually(lambda: control.words(2)[IERRORS + counters.PEER_DOWN])
            os.close(target.fd)
            target.fd = up
        assert not control.words(2)[IN_FLIGHT]


@on_loop
async def test_each_request_updates_the_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "HEARTBEAT_S", 3600)
    async with worker() as found:
        for request in (Ping(), Detach(1, "epair9", 1.0)):
            before = found.words(0)[counters.HEARTBEAT_NS]
            found.worker.handle(request, [])
            assert found.words(0)[counters.HEARTBEAT_NS] > before
        assert found.received == [Done(1, "epair9 is not attached")]


@on_loop
async def test_heartbeat_and_cpu_time_are_updated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "HEARTBEAT_S", 0.001)
    async with worker() as control:
        words = control.words(0)
        words[counters.CPU_NS] = 10**12
        second = control.worker = WorkerLoop(Start(0, 0, 10, 0), control.table, control.received.append)
        second.begin()
        first = words[counters.HEARTBEAT_NS]
        assert first <= time.monotonic_ns()
        await eventually(lambda: words[counters.HEARTBEAT_NS] > first)
        assert words[counters.CPU_NS] > 10**12, "a successor continues to count"


@on_loop
async def test_requests_that_fail_are_answered_and_leave_nothing_behind() -> None:
    async with worker() as control:
        control.attach()
        await control.answered(control.attach(), "epair0: is attached already")
        await control.answered(control.detach("epair7"), "epair7 is not attached")
        await control.answered(control.resize(MTUS, "epair7"), "epair7 is not attached")
        fd = os.dup(control.table.fd)
        control.worker.handle(
            Attach(99, CableSpec("epair8", (PortSpec("a", 3, 1500), PortSpec("b", 4, 1500)))), [fd]
        )
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        lacking = f"too many open files: its worker may have {limit}: raise LimitNOFILE= of the service"
        await control.answered(99, f"epair8: {lacking}", errno.EMFILE)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
        with pytest.raises(ValueError, match="not a request"):
            control.worker.handle(Ready(1), [])


def test_the_limit_of_descriptors_is_the_one_that_the_kernel_applies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker has raised its own to the second one, the hard limit, before it has a cable."""
    monkeypatch.setattr(resource, "getrlimit", lambda _resource: (1024, 524_288))
    spec = worker_module.__spec__
    assert spec is not None
    assert spec.loader is not None
    another = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(another)
    assert another.OPEN_FILES == 524_288


@on_loop
async def test_another_limit_applies_while_frames_wait() -> None:
    async with worker(queue_limit=4) as control:
        await control.answered(control.attach())
        a, b = control.owners["epair0a"], control.owners["epair0b"]

        def full() -> bool:
            with suppress(BlockingIOError):
                a.sends(frame())
            return bool(control.words(0)[counters.WORKER_OACTIVE])

        await eventually(full)
        assert control.words(0)[counters.QUEUE_FRAMES] == 4
        for limit in (2, 50):
            request = Tune(control._next(), queue_limit=limit, poll_spin_us=0, orphan_timeout=0)
            control.worker.handle(request, [])
            assert Done(request.id) in control.received
        await eventually(lambda: (b.receives(), not control.words(0)[counters.QUEUE_FRAMES])[1])
        assert not control.words(0)[counters.WORKER_OACTIVE]
        assert control.worker._queue.limit == 50


@pytest.mark.parametrize(
    ("kind", "forwarding", "swap"),
    [
        (CableKind.UNPLUGGED, Sink, None),
        (CableKind.REFLECT, Reflector, True),
        (CableKind.VERBATIM, Reflector, False),
    ],
)
@on_loop
async def test_each_kind_of_cable_has_its_forwarding(kind: str, forwarding: type, swap: bool | None) -> None:
    async with worker() as control:
        owner = control.owners["lo1"] = Owner()
        spec = CableSpec("lo1", (PortSpec("lo1", 1, 1500),), kind)
        control.worker.handle(Attach(7, spec), [os.dup(owner.device.fileno())])
        await control.answered(7)
        port = control.worker._cables["lo1"].ports[0]
        assert type(port.forwarding) is forwarding
        assert getattr(port.forwarding, "_swap", None) is swap


@on_loop
async def test_a_loopback_returns_packets_and_reports_the_first_of_no_family() -> None:
    async with worker(poll_spin_us=1000) as control:
        owner = control.owners["lo1"] = Owner()
        spec = CableSpec("lo1", (PortSpec("lo1", 1, 1500),), CableKind.VERBATIM)
        control.worker.handle(Attach(7, spec), [os.dup(owner.device.fileno())])
        packet = bytes(10) + bytes(IP(dst="10.0.0.1"))
        owner.sends(packet, bytes(10) + b"\x75" * 30, bytes(10) + b"\x75" * 30)
        assert await receives(owner, 1) == [packet]
        assert [each for each in control.received if not isinstance(each, Done)] == [UnknownFamily("lo1", 7)]
        assert not control.worker._spin._polling, "no answer will come from a far end"


@on_loop
async def test_an_unknown_kind_of_cable_is_refused() -> None:
    async with worker() as control:
        fd = os.dup(control.table.fd)
        control.worker.handle(Attach(9, CableSpec("x0", (PortSpec("x0", 1, 1500),), "teleport")), [fd])
        await control.answered(9, "x0: unknown kind teleport")
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
        assert not control.reported()
