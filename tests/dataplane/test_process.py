"""A worker process and the control planes that it serves, one after the other."""

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

from epaird import __version__
from epaird.dataplane.process import FAILED, SPARE
from epaird.ipc.counters import IN_FLIGHT, OPACKETS
from epaird.ipc.encoding import decode, encode
from epaird.ipc.ledger import Table
from epaird.ipc.messages import (
    PROTOCOL,
    Adopt,
    Adopted,
    Attach,
    Attached,
    CableSpec,
    Describe,
    Description,
    Detach,
    Done,
    End,
    Listen,
    Message,
    PortSpec,
    Ready,
    Start,
)
from tests.dataplane.conftest import Owner, frame

CABLE = CableSpec("epair0", (PortSpec("epair0a", 2, 1500), PortSpec("epair0b", 3, 1500)))


@dataclass
class Subject:
    """A worker process, and the control plane's end of everything."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    table: Table
    path: Path

    def send(self, message: Message, *fds: int) -> None:
        socket.send_fds(self.control, [encode(message)], fds)

    def receive(self) -> tuple[Message, list[int]]:
        """Return the next message, and its descriptors."""
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
            self.send(start, self.table.fd, listener.fileno())
            assert self.receive()[0] == Ready(self.process.pid)

    def attach(self, a: Owner, b: Owner) -> None:
        request = Attach(1, CABLE)
        self.send(request, a.device.fileno(), b.device.fileno())
        assert self.receive()[0] == Done(1)

    def adopt(self) -> None:
        """Become another control plane."""
        self.control.close()
        self.control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(30)
        self.control.connect(str(self.path))

    def comm(self) -> str:
        return Path(f"/proc/{self.process.pid}/comm").read_text().strip()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Subject]:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.settimeout(30)
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", "epaird.dataplane", str(far.fileno())], pass_fds=(far.fileno(),)
    )
    far.close()
    table = Table.create(8)
    worker = Subject(process, near, table, tmp_path / "worker.sock")
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


def test_a_spare_process_ends_with_the_control_plane(worker: Subject) -> None:
    worker.control.close()
    assert worker.process.wait(30) == 0


def test_the_process_has_the_name_of_its_role(worker: Subject) -> None:
    while worker.comm() != SPARE:
        pass
    worker.start(0)
    assert worker.comm() == "epaird-w3"


def test_it_ends_on_request(worker: Subject) -> None:
    worker.start(3600)
    worker.send(End())
    assert worker.process.wait(30) == 0


@pytest.mark.parametrize("timeout", [0, 0.1])
def test_an_orphan_ends_when_no_control_plane_connects(worker: Subject, timeout: float) -> None:
    worker.start(timeout)
    worker.control.close()
    assert worker.process.wait(30) == 0


def test_an_orphan_forwards_and_reports_to_the_next_control_plane(
    worker: Subject, owners: tuple[Owner, Owner]
) -> None:
    worker.start(3600)
    worker.attach(*owners)
    a, b = owners
    for generation in range(1, 4):
        worker.control.close()
        a.sends(frame(b"for an orphan"))
        while b.receives() != [frame(b"for an orphan")]:
            pass
        worker.adopt()
        worker.send(Adopt(77))
        adopted, (table_fd,) = worker.receive()
        assert adopted == Adopted(worker.process.pid, 3, 1, 2100, 0, PROTOCOL, lines=True)
        with contextlib.ExitStack() as fds:
            fds.callback(os.close, table_fd)
            assert Table(table_fd).slot(2)[OPACKETS] == generation
            attached, devices = worker.receive()
            assert attached == Attached(CABLE)
            for fd, owner in zip(devices, owners, strict=True):
                fds.callback(os.close, fd)
                assert os.path.sameopenfile(fd, owner.device.fileno())
        assert worker.receive()[0] == Done(77)
    worker.send(Detach(5, "epair0", 1.0))
    assert worker.receive()[0] == Done(5)
    worker.send(End())
    assert worker.process.wait(30) == 0


def test_a_cable_that_is_being_detached_is_not_reported(worker: Subject, owners: tuple[Owner, Owner]) -> None:
    worker.start(3600)
    worker.attach(*owners)
    a, b = owners
    with contextlib.suppress(BlockingIOError):
        while True:
            b.device.send(frame())
    a.sends(frame())
    while not worker.table.slot(3)[IN_FLIGHT]:
        pass
    worker.send(Detach(5, "epair0", 3600))
    worker.adopt()
    worker.send(Adopt(1))
    assert isinstance(worker.receive()[0], Adopted)
    assert worker.receive()[0] == Done(1)


def test_it_describes_itself_and_takes_another_standard_error(worker: Subject) -> None:
    worker.start(3600)
    reading, writing = os.pipe()
    worker.send(Describe(9), writing)
    os.close(writing)
    description, _ = worker.receive()
    assert isinstance(description, Description)
    assert description.version == __version__
    assert worker.receive()[0] == Done(9)
    worker.control.send(b"not a message")
    assert worker.process.wait(30) == FAILED
    with os.fdopen(reading, "rb") as errors:
        assert b"internal error" in errors.read()


def test_an_unexpected_exception_ends_it(worker: Subject) -> None:
    worker.start(3600)
    worker.control.send(b"not a message")
    assert worker.process.wait(30) == FAILED


def test_a_worker_listens_where_it_is_asked_to(worker: Subject, tmp_path: Path) -> None:
    worker.start(60)
    second = tmp_path / "second.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(second))
        listener.listen(1)
        worker.send(Listen(7), listener.fileno())
        assert worker.receive() == (Done(7), [])
    worker.control.close()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as old, pytest.raises(ConnectionRefusedError):
        old.connect(str(worker.path))
    worker.control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    worker.control.connect(str(second))
    worker.send(Adopt(8))
    adopted, fds = worker.receive()
    assert isinstance(adopted, Adopted)
    for fd in fds:
        os.close(fd)
    assert worker.receive()[0] == Done(8)
