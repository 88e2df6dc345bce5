"""The worker on a real loop, given socketpairs for devices."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest

from epaird.dataplane import worker as worker_module
from epaird.dataplane.worker import Worker
from epaird.ipc import counters, ledger
from epaird.ipc.channel import Channel
from epaird.ipc.counters import IERRORS, IN_FLIGHT, IPACKETS, LISTED, OPACKETS, WRITE_ERROR
from epaird.ipc.ledger import Table
from epaird.ipc.messages import (
    Attach,
    CableKind,
    CableSpec,
    Detach,
    Done,
    Gone,
    Keep,
    Message,
    Ping,
    PortSpec,
    Ready,
    Resize,
    Start,
    Tune,
)
from tests.dataplane.conftest import Owner, frame
from tests.loop import on_loop, turns
from tests.waiting import eventually

MTUS = (1500, 1500)


class Control:
    """A worker, and its control plane: what it was told, and orders."""

    def __init__(self, queue_limit: int, poll_spin_us: int) -> None:
        self.table = Table.create(16)
        self.told: list[Message] = []
        start = Start(worker=0, slot=0, queue_limit=queue_limit, poll_spin_us=poll_spin_us)
        self.worker = Worker(start, self.table, self.told.append)
        self.owners: dict[str, Owner] = {}
        self._orders = 0
        self._slots = 0

    def attach(self, cable: str = "epair0", mtus: tuple[int, int] = MTUS) -> int:
        """Have a new cable forwarded; the order's id."""
        names = (f"{cable}a", f"{cable}b")
        for name in names:
            if name not in self.owners:
                self.owners[name] = Owner()
        fds = [os.dup(self.owners[name].device.fileno()) for name in names]
        slots = (self._slots + 1, self._slots + 2)
        self._slots += 2
        ports = tuple(PortSpec(*port) for port in zip(names, slots, mtus, strict=True))
        order = Attach(self._next(), CableSpec(cable, ports))
        self.worker.obey(order, fds)
        return order.id

    def detach(self, cable: str = "epair0", patience: float = 3600) -> int:
        order = Detach(self._next(), cable, patience)
        self.worker.obey(order, [])
        return order.id

    def keep(self, cable: str = "epair0", patience: float = 3600) -> int:
        order = Keep(self._next(), cable, patience)
        self.worker.obey(order, [])
        return order.id

    def has(self) -> dict[str, str]:
        """What the worker would tell another control plane: cables and their kinds."""
        return {about.cable.name: about.cable.kind for about, _ in self.worker.attached()}

    def resize(self, mtus: tuple[int, int], cable: str = "epair0") -> int:
        order = Resize(self._next(), cable, mtus)
        self.worker.obey(order, [])
        return order.id

    def words(self, slot: int) -> ledger.Words:
        return self.table.slot(slot)

    async def answered(self, order: int, error: str = "") -> None:
        await eventually(lambda: Done(order, error) in self.told)

    async def fill(self, name: str = "epair0a") -> None:
        """Send until frames wait in the queue."""
        while not self.words(0)[counters.QUEUE_FRAMES]:
            with suppress(BlockingIOError):
                self.owners[name].sends(frame())
            await asyncio.sleep(0)

    def _next(self) -> int:
        self._orders += 1
        return self._orders


@asynccontextmanager
async def worker(queue_limit: int = 2100, poll_spin_us: int = 0) -> AsyncIterator[Control]:
    control = Control(queue_limit, poll_spin_us)
    try:
        yield control
    finally:
        for cable in (*control.worker._cables, *control.worker._kept):
            await control.answered(control.detach(cable, patience=0))
        for owner in control.owners.values():
            owner.close()
        os.close(control.worker._nobody.fd)
        os.close(control.table.fd)


async def receives(owner: Owner, count: int) -> list[bytes]:
    """So many frames, once they have come."""
    received: list[bytes] = []

    def all_there() -> bool:
        received.extend(owner.receives())
        return len(received) >= count

    await eventually(all_there)
    return received


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
async def test_while_it_spins_frames_cross_too_and_then_it_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    async with worker(poll_spin_us=1000) as control:
        looks: list[bool] = []
        spin = control.worker._spin

        def look_again(now_ns: int) -> bool:
            looks.append(spin.look_again(now_ns))
            return looks[-1]

        watched = SimpleNamespace(forwarded=spin.forwarded, look_again=look_again)
        monkeypatch.setattr(control.worker, "_spin", watched)
        control.attach()
        a, b = control.owners["epair0a"], control.owners["epair0b"]
        for _ in range(20):
            a.sends(frame())
            await eventually(b.receives)
        await eventually(lambda: looks and not looks[-1])
        before = len(looks)
        await turns(20)
        assert len(looks) == before


@on_loop
async def test_a_cable_that_waits_is_let_go_when_its_receiver_has_taken_all() -> None:
    async with worker() as control:
        control.attach()
        await control.fill()
        waiting = control.words(2)[IN_FLIGHT]
        order = control.detach()
        await turns(20)
        assert Done(order) not in control.told
        b = control.owners["epair0b"]
        received = []
        while Done(order) not in control.told:
            received += b.receives()
            await asyncio.sleep(0)
        received += b.receives()
        assert waiting
        assert len(received) == control.words(1)[OPACKETS] == control.words(2)[IPACKETS]


@on_loop
async def test_after_patience_what_waits_is_dropped_and_counted() -> None:
    async with worker() as control:
        control.attach()
        await control.fill()
        waiting = control.words(2)[IN_FLIGHT]
        await control.answered(control.detach(patience=0.01))
        assert control.words(2)[IERRORS + WRITE_ERROR] == waiting
        assert control.words(2)[IN_FLIGHT] == control.words(0)[counters.QUEUE_FRAMES] == 0


@on_loop
async def test_nothing_is_read_of_a_cable_that_is_being_let_go() -> None:
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
async def test_what_is_kept_is_not_read_and_is_told_until_it_is_let_go() -> None:
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
        assert not control.has()
        with pytest.raises(ConnectionRefusedError):
            owner.sends(frame())


@on_loop
async def test_what_is_kept_is_forgotten_when_it_is_attached_again() -> None:
    async with worker() as control:
        control.attach()
        await control.answered(control.keep())
        await control.answered(control.attach())
        assert control.has() == {"epair0": CableKind.CABLE}
        assert not control.worker._kept


@on_loop
async def test_what_is_being_let_go_is_told_if_it_is_to_be_kept() -> None:
    async with worker() as control:
        control.attach()
        await control.fill()
        control.keep()
        assert control.has() == {"epair0": CableKind.KEPT}
        # Another control plane has less patience, and lets go for good.
        order = control.detach(patience=0.01)
        assert not control.has()
        await control.answered(order)
        assert not control.worker._kept


@on_loop
async def test_letting_go_closes_its_descriptors_and_answers_once() -> None:
    async with worker() as control:
        for _ in range(3):
            control.attach()
            order = control.detach()
            await turns()
            assert control.told.count(Done(order)) == 1
        owner = control.owners["epair0a"]
        owner.device.close()
        with pytest.raises(ConnectionRefusedError):
            owner.end.send(b"nobody has it open")


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
async def test_a_listed_cable_leaves_the_drain_list_when_it_is_let_go() -> None:
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
        await eventually(lambda: control.owners["epair1b"].receives())
        await eventually(lambda: not control.words(3)[LISTED])


@on_loop
async def test_a_device_that_vanished_is_told_once_and_keeps_nothing_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with worker() as control:
        control.attach()
        control.attach("epair1")
        reads = 0
        interface = control.worker._cables["epair0"].ends[0]

        def gone(_buffer: memoryview) -> int | None:
            nonlocal reads
            reads += 1
            raise OSError(77, "File descriptor in bad state")

        interface.read = gone
        control.owners["epair0a"].sends(frame(), frame())
        await eventually(lambda: Gone("epair0", "epair0a") in control.told)
        await turns(20)
        assert control.told.count(Gone("epair0", "epair0a")) == 1
        assert reads == 1
        control.owners["epair1a"].sends(frame())
        await eventually(lambda: control.owners["epair1b"].receives())
        await control.answered(control.detach())


@on_loop
async def test_a_new_mtu_is_the_measure_from_then_on() -> None:
    async with worker() as control:
        control.attach()
        a, b = control.owners["epair0a"], control.owners["epair0b"]
        large = frame(bytes(2000))
        a.sends(large)
        await eventually(lambda: sum(control.words(1)[counters.OERRORS : counters.IERRORS]))
        await control.answered(control.resize((9000, 9000)))
        a.sends(large)
        await eventually(lambda: large in b.receives())


@on_loop
async def test_a_receiver_that_went_down_while_frames_waited_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_module, "RETRY_S", 0.005)
    async with worker() as control:
        control.attach()
        await control.fill()
        target = control.worker._cables["epair0"].ends[1]
        with open("/proc/self/mem", "r+b", buffering=0) as down:  # noqa: ASYNC230, PTH123
            up, target.fd = target.fd, os.dup(down.fileno())  # answers EIO, as a TAP that is down
            asyncio.get_running_loop().remove_writer(up)
            await eventually(lambda: control.words(2)[IERRORS + counters.PEER_DOWN])
            os.close(target.fd)
            target.fd = up
        assert not control.words(2)[IN_FLIGHT]


@on_loop
async def test_each_order_is_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "HEARTBEAT_S", 3600)
    async with worker() as found:
        for order in (Ping(), Detach(1, "nobody", 1.0)):
            before = found.words(0)[counters.HEARTBEAT_NS]
            found.worker.obey(order, [])
            assert found.words(0)[counters.HEARTBEAT_NS] > before
        assert found.told == [Done(1, "nobody is not attached")]


@on_loop
async def test_its_heart_beats_and_its_time_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "HEARTBEAT_S", 0.001)
    async with worker() as control:
        words = control.words(0)
        words[counters.CPU_NS] = 10**12
        os.close(control.worker._nobody.fd)
        second = control.worker = Worker(Start(0, 0, 10, 0), control.table, control.told.append)
        second.begin()
        first = words[counters.HEARTBEAT_NS]
        assert first <= time.monotonic_ns()
        await eventually(lambda: words[counters.HEARTBEAT_NS] > first)
        assert words[counters.CPU_NS] > 10**12, "a successor goes on counting"


@on_loop
async def test_what_cannot_be_done_is_answered_and_nothing_is_kept() -> None:
    async with worker() as control:
        control.attach()
        await control.answered(control.attach(), "epair0: is attached already")
        await control.answered(control.detach("epair7"), "epair7 is not attached")
        await control.answered(control.resize(MTUS, "epair7"), "epair7 is not attached")
        fd = os.dup(control.table.fd)
        control.worker.obey(
            Attach(99, CableSpec("epair8", (PortSpec("a", 3, 1500), PortSpec("b", 4, 1500)))), [fd]
        )
        await control.answered(99, "epair8: too many files are open")
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
        with pytest.raises(ValueError, match="not an order"):
            control.worker.obey(Ready(1), [])


# The process.


@asynccontextmanager
async def process() -> AsyncIterator[tuple[subprocess.Popen[bytes], Channel, list[Any]]]:
    """A worker's process, our channel to it, and what it says; an exception says that it ended."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    said: list[Any] = []
    command = [sys.executable, "-I", "-m", "epaird.dataplane", str(theirs.fileno())]
    with theirs:
        running = subprocess.Popen(command, pass_fds=(theirs.fileno(),))  # noqa: ASYNC220
    channel = Channel(ours, lambda message, _fds: said.append(message), lambda: said.append(EOFError))
    try:
        yield running, channel, said
    finally:
        channel.close()
        await eventually(lambda: running.poll() is not None)


@on_loop
async def test_the_process_is_ready_once_started_ignores_signals_and_ends_with_the_control_plane() -> None:
    table = Table.create(4)
    async with process() as (running, channel, said):
        channel.send(Start(0, 0, 10, 0), (table.fd,))
        await eventually(lambda: said)
        assert said == [Ready(running.pid)]
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            running.send_signal(number)
        before = table.slot(0)[counters.HEARTBEAT_NS]
        await eventually(lambda: table.slot(0)[counters.HEARTBEAT_NS] > before)
        channel.close()
        await eventually(lambda: running.poll() is not None)
        assert running.returncode == 0
    os.close(table.fd)


@on_loop
async def test_a_process_whose_control_plane_ends_before_it_started_ends_too() -> None:
    async with process() as (running, channel, _):
        channel.close()
        await eventually(lambda: running.poll() is not None)
        assert running.returncode == 0


@on_loop
async def test_it_works_by_another_limit_while_frames_wait() -> None:
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
            order = Tune(control._next(), queue_limit=limit, poll_spin_us=0, orphan_timeout=0)
            control.worker.obey(order, [])
            assert Done(order.id) in control.told
        await eventually(lambda: (b.receives(), not control.words(0)[counters.QUEUE_FRAMES])[1])
        assert not control.words(0)[counters.WORKER_OACTIVE]
        assert control.worker._queue.limit == 50
