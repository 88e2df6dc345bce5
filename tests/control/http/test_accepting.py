"""Accepting connections while there are descriptors, and while there are none."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from epaird.control.http import accepting
from epaird.control.http.accepting import Acceptor
from tests.loop import on_loop
from tests.waiting import eventually


class Echo(asyncio.Protocol):
    """A connection that answers with what it receives, and ends."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        self.transport.close()


class FailingListener(socket.socket):
    """A socket whose accept() fails."""

    failures: list[int]

    def accept(self) -> tuple[socket.socket, Any]:
        if self.failures:
            raise OSError(number := self.failures.pop(), os.strerror(number))
        return super().accept()


@contextlib.asynccontextmanager
async def accepting_at(path: Path, answer: bytes | None = None) -> AsyncIterator[Acceptor]:
    """An acceptor at a path, which turns clients away with ``answer``."""
    listener = FailingListener(socket.AF_UNIX)
    listener.failures = []
    listener.bind(str(path))
    listener.listen(64)
    acceptor = Acceptor(listener, Echo, lambda _: answer, lambda: b"no descriptors")
    acceptor.start()
    try:
        yield acceptor
    finally:
        await acceptor.close()


async def said(path: Path, words: bytes = b"hello") -> bytes:
    """Return what a client receives that sends ``words``, up to the end."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(words)
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@on_loop
async def test_clients_are_served_and_those_that_wait_are_first(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with accepting_at(path):
        assert await asyncio.gather(*(said(path) for _ in range(3 * accepting.AT_ONCE))) == (
            [b"hello"] * 3 * accepting.AT_ONCE
        )


@on_loop
async def test_a_client_that_is_not_admitted_reads_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with accepting_at(path, b"too many"):
        assert await said(path, b"") == b"too many"


@on_loop
async def test_without_descriptors_clients_read_that_and_later_ones_are_served(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with accepting_at(path) as acceptor:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            # Every number up to the highest one in use is taken, so that no descriptor is left.
            highest = max(map(int, os.listdir("/proc/self/fd")))  # noqa: PTH208
            taken = [os.open(os.devnull, os.O_RDONLY)]
            while taken[-1] <= highest:
                taken.append(os.open(os.devnull, os.O_RDONLY))
            resource.setrlimit(resource.RLIMIT_NOFILE, (taken[-1] + 1, limits[1]))
            try:
                client.connect(str(path))
                assert await asyncio.get_running_loop().sock_recv(client, 100) == b"no descriptors"
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                for fd in taken:
                    os.close(fd)
        assert await said(path) == b"hello"
        assert acceptor.listener.fileno() >= 0


@pytest.mark.parametrize("number", [errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
def test_an_error_of_the_machine_ends_nothing_and_is_logged_once(
    tmp_path: Path, number: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "PAUSE_S", 0.001)

    async def run() -> None:
        path = tmp_path / "socket"
        async with accepting_at(path) as acceptor:
            listener = acceptor.listener
            assert isinstance(listener, FailingListener)
            listener.failures = [number] * 8
            assert await said(path) == b"hello"
            assert not listener.failures

    with caplog.at_level(logging.WARNING):
        on_loop(run)()
    assert [record.getMessage() for record in caplog.records] == [
        f"no client can connect for the moment: {os.strerror(number)}"
    ]


@on_loop
async def test_an_error_of_one_connection_concerns_no_other(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with accepting_at(path) as acceptor:
        assert isinstance(acceptor.listener, FailingListener)
        acceptor.listener.failures = [errno.ECONNABORTED]
        assert await said(path) == b"hello"


@on_loop
async def test_a_socket_that_is_given_up_serves_the_clients_that_wait(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with accepting_at(path) as acceptor:
        clients = [socket.socket(socket.AF_UNIX) for _ in range(3 * accepting.AT_ONCE)]
        for client in clients:
            client.setblocking(False)
            client.connect(str(path))
        await acceptor.close(drain=True)
        loop = asyncio.get_running_loop()
        for client in clients:
            await loop.sock_sendall(client, b"hello")
            assert await loop.sock_recv(client, 100) == b"hello"
            client.close()
        await eventually(lambda: acceptor.listener.fileno() < 0)
