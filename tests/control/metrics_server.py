"""The metrics server, on an event loop of its own in a thread."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import uvloop

from epaird.control.metrics.server import MetricsServer
from epaird.control.readings import Reading
from tests.waiting import DEADLINE_S


class Serving:
    """A running metrics server and its clients."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self.server = MetricsServer.bind("127.0.0.1", 0, read)
        self.loop_errors: list[dict[str, Any]] = []
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=uvloop.run, args=(self._serve(),), daemon=True)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: self.loop_errors.append(context))
        await self.server.start()
        self._started.set_result(loop)
        await self._stop.wait()
        await self.server.stop()

    def start(self) -> None:
        """Return when the server answers."""
        self._thread.start()
        self._loop = self._started.result(DEADLINE_S)

    def stop(self) -> None:
        """Return when the server has stopped; a server that does not stop fails the test."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "stop() hangs"

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        """Make one request on a connection of its own."""
        connection = http.client.HTTPConnection(*self.server.address, timeout=DEADLINE_S)
        try:
            connection.request(
                method, path, headers={name.replace("_", "-"): text for name, text in headers.items()}
            )
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def connect(self, *sent: bytes) -> socket.socket:
        """Return a connection on which these bytes are sent."""
        connection = socket.create_connection(self.server.address, timeout=DEADLINE_S)
        for part in sent:
            connection.sendall(part)
        return connection


@contextmanager
def serving(read: Callable[[], Reading]) -> Iterator[Serving]:
    """Run a server; at the end it must stop without an error in its event loop."""
    running = Serving(read)
    running.start()
    try:
        yield running
    finally:
        running.stop()
    assert running.loop_errors == []
