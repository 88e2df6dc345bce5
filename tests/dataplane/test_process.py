"""A worker's process and the control planes it obeys, one after the other."""

from __future__ import annotations

import array
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from epaird.dataplane.process import FAILED, SPARE
from epaird.ipc.counters import IN_FLIGHT, OPACKETS
from epaird.ipc.ledger import Table
from epaird.ipc.messages import (
    PROTOCOL,
    Adopt,
    Adopted,
    Attach,
    Attached,
    CableSpec,
    Detach,
    Done,
    End,
    Message,
    PortSpec,
    Ready,
    Start,
    decode,
    encode,
)
from tests.dataplane.conftest import Owner, frame

CABLE = CableSpec("epair0", (PortSpec("epair0a", 2, 1500), PortSpec("epair0b", 3, 1500)))


@dataclass
class Worker:
    """A worker process, and what a control plane has for it."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    table: Table
    path: Path

    def say(self, message: Message, *fds: int) -> None:
        socket.send_fds(self.control, [encode(message)], fds)

    def hears(self) -> tuple[Message, list[int]]:
        """The next message, and its descriptors."""
        packet, ancillary, _, _ = self.control.recvmsg(65536, socket.CMSG_LEN(16))
        fds = array.array("i")
        for _, _, data in ancillary:
            fds.frombytes(data)
        return decode(packet), list(fds)

    def start(self, orphan_timeout: float) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(self.path))
            listener.listen(1)
            start = Start(3, 1, 2100, 0, orphan_timeout)
            self.say(start, self.table.fd, listener.fileno())
            assert self.hears()[0] == Ready(self.process.pid)

    def attach(self, a: Owner, b: Owner) -> None:
        order = Attach(1, CABLE)
        self.say(order, a.device.fileno(), b.device.fileno())
        assert self.hears()[0] == Done(1)

    def adopt(self) -> None:
        """Be another control plane."""
        self.control.close()
        self.control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(30)
        self.control.connect(str(self.path))

    def comm(self) -> str:
        return Path(f"/proc/{self.process.pid}/comm").read_text().strip()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(30)
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", "epaird.dataplane", str(theirs.fileno())], pass_fds=(theirs.fileno(),)
    )
    theirs.close()
    table = Table.create(8)
    worker = Worker(process, ours, table, tmp_path / "worker.sock")
    yield worker
    worker.control.close()
    process.kill()
    process.wait()
    os.close(table.fd)


@pytest.fixture
def owners() -> Iterator[tuple[Owner, Owner]]:
    pair = Owner(), Owner()
    yield pair
    for owner in pair:
        owner.close()


def test_one_that_is_nobodys_ends_with_the_control_plane(worker: Worker) -> None:
    worker.control.close()
    assert worker.process.wait(30) == 0


def test_it_is_called_what_it_is(worker: Worker) -> None:
    while worker.comm() != SPARE:
        pass
    worker.start(0)
    assert worker.comm() == "epaird-w3"


def test_it_ends_when_it_is_told_to(worker: Worker) -> None:
    worker.start(3600)
    worker.say(End())
    assert worker.process.wait(30) == 0


@pytest.mark.parametrize("timeout", [0, 0.1])
def test_an_orphan_ends_when_nobody_comes(worker: Worker, timeout: float) -> None:
    worker.start(timeout)
    worker.control.close()
    assert worker.process.wait(30) == 0


def test_an_orphan_forwards_and_tells_the_next_one_everything(
    worker: Worker, owners: tuple[Owner, Owner]
) -> None:
    worker.start(3600)
    worker.attach(*owners)
    a, b = owners
    for generation in range(1, 4):
        worker.control.close()
        a.sends(frame(b"while nobody is there"))
        while b.receives() != [frame(b"while nobody is there")]:
            pass
        worker.adopt()
        worker.say(Adopt(77))
        about, (table_fd,) = worker.hears()
        assert about == Adopted(worker.process.pid, 3, 1, 2100, 0, PROTOCOL)
        with contextlib.ExitStack() as fds:
            fds.callback(os.close, table_fd)
            assert Table(table_fd).slot(2)[OPACKETS] == generation
            attached, devices = worker.hears()
            assert attached == Attached(CABLE)
            for fd, owner in zip(devices, owners, strict=True):
                fds.callback(os.close, fd)
                assert os.path.sameopenfile(fd, owner.device.fileno())
        assert worker.hears()[0] == Done(77)
    worker.say(Detach(5, "epair0", 1.0))
    assert worker.hears()[0] == Done(5)
    worker.say(End())
    assert worker.process.wait(30) == 0


def test_a_cable_that_is_being_let_go_is_not_told(worker: Worker, owners: tuple[Owner, Owner]) -> None:
    worker.start(3600)
    worker.attach(*owners)
    a, b = owners
    with contextlib.suppress(BlockingIOError):
        while True:
            b.device.send(frame())
    a.sends(frame())
    while not worker.table.slot(3)[IN_FLIGHT]:
        pass
    worker.say(Detach(5, "epair0", 3600))
    worker.adopt()
    worker.say(Adopt(1))
    assert isinstance(worker.hears()[0], Adopted)
    assert worker.hears()[0] == Done(1)


def test_what_nobody_expected_ends_it(worker: Worker) -> None:
    worker.start(3600)
    worker.control.send(b"not a message")
    assert worker.process.wait(30) == FAILED
