"""A worker's process in the process of the test: what it keeps, and whom it serves when it is an orphan."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from epaird.dataplane import process as process_module
from epaird.dataplane.process import FAILED, WorkerProcess
from epaird.ipc.channel import Channel
from epaird.ipc.counters import HEARTBEAT_NS
from epaird.ipc.encoding import encode
from epaird.ipc.ledger import Table
from epaird.ipc.messages import (
    PROTOCOL,
    Adopt,
    Adopted,
    Description,
    Done,
    End,
    Listen,
    Message,
    Ping,
    Ready,
    Start,
    Tune,
)
from tests.loop import on_loop
from tests.waiting import DEADLINE_S, eventually

OWNER: Final = 4711
"""The user whose control planes may replace the one that has gone."""
CONNECT: Final = """
import os, socket, sys
path, user, message = sys.argv[1:]
os.setresuid(int(user), int(user), int(user))
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
    connection.connect(path)
    try:
        connection.send(message.encode())
        connection.recv(1)
    except ConnectionError:
        pass
"""
"""Sends a message as a user, and waits for the end of the connection."""
ARENAS: Final = """
import os, sys, tempfile
from epaird.dataplane.process import _spare_memory

def arenas():
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        sys._debugmallocstats()
        file.seek(0)
        (line,) = (each for each in file if each.startswith(b"# arenas allocated current"))
    return int(line.split()[-1])

before = arenas()
spare = _spare_memory()
print(arenas() - before)
"""


class ControlPlane:
    """A control plane's end of a connection, and what it has received."""

    def __init__(self, connection: socket.socket) -> None:
        self.received: list[Message] = []
        self.channel = Channel(connection, self._received, lambda: None)

    def _received(self, message: Message, fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)
        self.received.append(message)

    async def answered(self, request: Message, *expected: Message) -> None:
        self.received.clear()
        self.channel.send(request)
        await eventually(lambda: self.received == list(expected))


class Scene:
    """A process and its control planes."""

    def __init__(self, directory: Path) -> None:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.first = ControlPlane(near)
        self.table = Table.create(4)
        self.path = directory / "worker.sock"
        self.listener = self.listening(self.path)
        self._comm = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        self.process = WorkerProcess(far, OWNER, self._comm, Description("9.9"))
        self._planes = [self.first]

    def listening(self, path: Path) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(path))
        path.chmod(0o777)
        listener.listen(4)
        return listener

    async def start(self, orphan_timeout: float = 3600, *, listener: bool = True) -> None:
        fds = (self.table.fd, self.listener.fileno()) if listener else (self.table.fd,)
        self.first.channel.send(Start(3, 1, 2100, 0, orphan_timeout), fds)
        await eventually(lambda: self.first.received == [Ready(os.getpid())])

    def connect(self, path: Path | None = None) -> ControlPlane:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.connect(str(path or self.path))
        except ConnectionRefusedError:
            connection.close()
            raise
        self._planes.append(ControlPlane(connection))
        return self._planes[-1]

    def close(self) -> None:
        for each in self._planes:
            each.channel.close()
        self.process._channel.close()
        if self.process._listener is not None:
            asyncio.get_running_loop().remove_reader(self.process._listener.fileno())
            self.process._listener.close()
        self.listener.close()
        os.close(self._comm)
        os.close(self.table.fd)
        gc.unfreeze()


@asynccontextmanager
async def scene(directory: Path) -> AsyncIterator[Scene]:
    made = Scene(directory)
    try:
        yield made
    finally:
        made.close()


@on_loop
async def test_a_started_process_has_a_heartbeat_and_memory_in_reserve(tmp_path: Path) -> None:
    async with scene(tmp_path) as found:
        frozen = gc.get_freeze_count()
        await found.start()
        assert found.table.slot(1)[HEARTBEAT_NS]
        assert isinstance(found.process._spare, bytes)
        assert gc.get_freeze_count() > frozen


def test_the_memory_in_reserve_is_an_arena_that_stays() -> None:
    command = [sys.executable, "-c", ARENAS]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    assert int(done.stdout) > 0


@on_loop
async def test_it_describes_itself_without_a_request(tmp_path: Path) -> None:
    async with scene(tmp_path) as found:
        found.process.describe()
        await eventually(lambda: found.first.received == [Description("9.9")])


@on_loop
async def test_a_process_that_was_not_started_refuses_every_other_request(tmp_path: Path) -> None:
    async with scene(tmp_path) as found:
        with pytest.raises(ValueError, match="not a first message"):
            found.process._received(Ping(), [])
        with pytest.raises(ValueError, match="not a first message"):
            found.process._received(Tune(1), [])


@on_loop
async def test_other_settings_are_applied_and_reported(tmp_path: Path) -> None:
    async with scene(tmp_path) as found:
        await found.start()
        await found.first.answered(Tune(4, 10, 20, 0), Done(4))
        expected = Adopted(os.getpid(), 3, 1, 10, 20, PROTOCOL, lines=True)
        await found.first.answered(Adopt(5), expected, Done(5))
        found.first.channel.close()
        await found.process.ended


@on_loop
async def test_it_never_waits_for_a_connection_that_another_process_takes(tmp_path: Path) -> None:
    async with scene(tmp_path) as found:
        await found.start()
        assert not os.get_blocking(found.listener.fileno())


@pytest.mark.parametrize("listener", [False, True])
@on_loop
async def test_it_listens_elsewhere_from_then_on(tmp_path: Path, listener: bool) -> None:
    async with scene(tmp_path) as found:
        await found.start(listener=listener)
        with found.listening(tmp_path / "second.sock") as second:
            found.first.received.clear()
            found.first.channel.send(Listen(7), (second.fileno(),))
            await eventually(lambda: found.first.received == [Done(7)])
            assert not os.get_blocking(second.fileno())
        found.listener.close()
        with (
            pytest.raises(ConnectionRefusedError),
            socket.socket(type=socket.SOCK_SEQPACKET, family=1) as old,
        ):
            old.connect(str(found.path))
        found.first.channel.close()
        successor = found.connect(tmp_path / "second.sock")
        await successor.answered(Adopt(8), Adopted(os.getpid(), 3, 1, 2100, 0, PROTOCOL, lines=True), Done(8))


@on_loop
async def test_an_orphan_of_a_second_waits_for_a_control_plane(tmp_path: Path) -> None:
    async with scene(tmp_path) as found:
        await found.start(orphan_timeout=1)
        found.first.channel.close()
        await eventually(lambda: found.process._deadline or found.process.ended.done())
        assert found.process._deadline is not None
        await found.process.ended


@on_loop
async def test_an_adopted_process_has_no_deadline_and_one_control_plane(tmp_path: Path) -> None:
    async with scene(tmp_path) as found:
        await found.start()
        found.first.channel.close()
        successor = found.connect()
        another = found.connect()
        for number in range(3):
            adopted = Adopted(os.getpid(), 3, 1, 2100, 0, PROTOCOL, lines=True)
            await successor.answered(Adopt(number), adopted, Done(number))
        assert not another.received
        assert found.process._deadline is not None
        assert found.process._deadline.cancelled()


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that other users reach; the test's own is root's."""
    with TemporaryDirectory(prefix="epaird-test-") as directory:
        path = Path(directory)
        path.chmod(0o755)
        yield path


@pytest.mark.real
@pytest.mark.parametrize(("user", "admitted"), [(0, True), (OWNER, True), (1, False), (OWNER + 1, False)])
@on_loop
async def test_the_next_control_plane_is_roots_or_the_owners(
    open_directory: Path, user: int, admitted: bool
) -> None:
    async with scene(open_directory) as found:
        await found.start()
        found.first.channel.close()
        await eventually(lambda: found.process._deadline)
        command = [sys.executable, "-c", CONNECT, str(found.path), str(user), encode(End()).decode()]
        connecting = asyncio.to_thread(subprocess.run, command, check=True, timeout=DEADLINE_S)
        if admitted:
            waiting = asyncio.create_task(connecting)
            await found.process.ended
            found.process._channel.close()
            await waiting
        else:
            await connecting
            assert not found.process.ended.done()


def test_what_failed_without_an_exception_is_reported(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    statuses: list[int] = []
    monkeypatch.setattr(os, "_exit", statuses.append)
    loop = asyncio.new_event_loop()
    process_module._fail(loop, {"message": "unexpected event"})
    process_module._fail(loop, {"message": "unexpected event", "exception": MemoryError()})
    loop.close()
    assert statuses == [FAILED, FAILED]
    problem = f"worker (pid {os.getpid()}): internal error or out of memory"
    assert capfd.readouterr().err == f"{problem}: 'unexpected event'\n{problem}: MemoryError()\n"
