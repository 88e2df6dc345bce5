"""The worker's program, as the control plane runs it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from epaird.ipc import counters
from epaird.ipc.channel import Channel
from epaird.ipc.ledger import Table
from epaird.ipc.messages import Ready, Start
from tests.loop import on_loop
from tests.waiting import eventually


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
