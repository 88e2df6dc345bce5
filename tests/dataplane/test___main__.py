"""The worker's program, as the control plane runs it."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from epaird.dataplane.process import FAILED, SPARE
from epaird.ipc import counters
from epaird.ipc.channel import Channel
from epaird.ipc.encoding import decode
from epaird.ipc.ledger import Table
from epaird.ipc.messages import Description, Ready, Start
from epaird.kernel import isolation
from epaird.kernel.scheduling import LONG_NS, use_default_slices, use_long_slices
from tests.loop import on_loop
from tests.scheduling import needs_slices, slice_ns
from tests.waiting import DEADLINE_S, eventually

CROWDED = """
import os, sys
connection, pipe = map(int, sys.argv[1:])
for fd in (3, 4, 6):
    os.dup2(pipe, fd)
os.dup2(connection, 5)
os.execv(sys.executable, [sys.executable, "-I", "-m", "epaird.dataplane", "5", "describe"])
"""
"""Starts a worker whose end of the connection is between copies of a pipe."""


@asynccontextmanager
async def process() -> AsyncIterator[tuple[subprocess.Popen[bytes], Channel, list[Any]]]:
    """A worker process, the channel to it, and the messages received from it: EOFError when it has ended."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    received: list[Any] = []
    command = [sys.executable, "-I", "-m", "epaird.dataplane", str(far.fileno())]
    with far:
        running = subprocess.Popen(command, pass_fds=(far.fileno(),))  # noqa: ASYNC220
    channel = Channel(near, lambda message, _fds: received.append(message), lambda: received.append(EOFError))
    try:
        yield running, channel, received
    finally:
        channel.close()
        await eventually(lambda: running.poll() is not None)


@on_loop
async def test_it_is_ready_once_started_ignores_signals_and_ends_with_the_control_plane() -> None:
    table = Table.create(4)
    async with process() as (running, channel, received):
        channel.send(Start(0, 0, 10, 0), (table.fd,))
        await eventually(lambda: received)
        assert received == [Ready(running.pid)]
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            running.send_signal(number)
        before = table.slot(0)[counters.HEARTBEAT_NS]
        await eventually(lambda: table.slot(0)[counters.HEARTBEAT_NS] > before)
        channel.close()
        await eventually(lambda: running.poll() is not None)
        assert running.returncode == 0
    os.close(table.fd)


@on_loop
async def test_it_ends_with_a_control_plane_that_never_started_it() -> None:
    async with process() as (running, channel, _):
        channel.close()
        await eventually(lambda: running.poll() is not None)
        assert running.returncode == 0


@pytest.fixture
def spare(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """A process that has described itself, and the control plane's end; the parameter is the command before
    it."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.settimeout(DEADLINE_S)
    before = getattr(request, "param", ())
    command = [*before, sys.executable, "-I", "-m", "epaird.dataplane", str(far.fileno()), "describe"]
    with near, far:
        running = subprocess.Popen(command, pass_fds=(far.fileno(),))
        far.close()
        yield running, near
        running.kill()
        running.wait()


def test_a_spare_has_its_name_once_it_has_described_itself(
    spare: tuple[subprocess.Popen[bytes], socket.socket],
) -> None:
    running, connection = spare
    assert isinstance(decode(connection.recv(4096)), Description)
    assert Path(f"/proc/{running.pid}/comm").read_text() == f"{SPARE}\n"


@pytest.mark.real
def test_a_spare_is_in_the_sandbox(spare: tuple[subprocess.Popen[bytes], socket.socket]) -> None:
    described = decode(spare[1].recv(4096))
    assert isinstance(described, Description)
    assert described.missing == ()
    assert described.namespaces == tuple(isolation.KINDS)


@pytest.mark.parametrize("spare", [("prlimit", "--nofile=100:200")], indirect=True)
def test_it_may_have_as_many_descriptors_as_the_hard_limit_permits(
    spare: tuple[subprocess.Popen[bytes], socket.socket],
) -> None:
    running, connection = spare
    connection.recv(4096)
    (limit,) = (
        line.split()[3:5]
        for line in Path(f"/proc/{running.pid}/limits").read_text().splitlines()
        if line.startswith("Max open files")
    )
    assert limit == ["200", "200"]


@needs_slices
def test_it_does_not_inherit_long_slices() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.settimeout(DEADLINE_S)
    command = [sys.executable, "-I", "-m", "epaird.dataplane", str(far.fileno()), "describe"]
    with near, far:
        use_long_slices()
        try:
            running = subprocess.Popen(command, pass_fds=(far.fileno(),))
        finally:
            use_default_slices()
        far.close()
        near.recv(4096)
        assert slice_ns(running.pid) != LONG_NS
    assert running.wait(DEADLINE_S) == 0


def test_it_keeps_its_connection_and_its_standard_error_and_no_other_descriptor() -> None:
    with ExitStack() as ours:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reading, writing = os.pipe()
        ours.callback(os.close, reading)
        ours.enter_context(near)
        # Above those that the program replaces.
        connection, pipe = (fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (far.fileno(), writing))
        far.close()
        os.close(writing)
        command = [sys.executable, "-c", CROWDED, str(connection), str(pipe)]
        running = subprocess.Popen(command, pass_fds=(connection, pipe), stderr=subprocess.PIPE)
        ours.enter_context(running)
        ours.callback(running.kill)
        os.close(connection)
        os.close(pipe)
        near.settimeout(DEADLINE_S)
        assert isinstance(decode(near.recv(4096)), Description)
        assert select.select([reading], [], [], 0)[0], "it has kept a copy of the pipe"
        assert os.read(reading, 1) == b""
        near.send(b"not a message")
        assert b"internal error" in running.communicate(timeout=DEADLINE_S)[1]
        assert running.returncode == FAILED
