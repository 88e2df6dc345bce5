"""The API on a real control socket, over operations without interfaces, on an event loop in a thread."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from epaird.control.api.server import ControlServer
from epaird.control.http.listening import ListenError
from tests.control.operations import FakeOperations, FakeReloads
from tests.waiting import DEADLINE_S

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer that curl got."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:  # noqa: ANN401
        return json.loads(self.body)

    @property
    def problem(self) -> dict[str, Any]:
        """Problem document. Raises AssertionError if it is not one of RFC 9457."""
        assert self.headers["content-type"] == "application/problem+json"
        document: dict[str, Any] = self.json
        assert document["status"] == self.status
        assert {"type", "title", "detail", "errno"} <= document.keys()
        return document


class Control:
    """A running server and its clients."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.operations = FakeOperations()
        self.reloads = FakeReloads()
        self.bound: Callable[[], None] = lambda: None
        """Called when the server listens, before it answers."""
        self.loop_errors: list[dict[str, Any]] = []
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=uvloop.run, args=(self._serve(),), daemon=True)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: self.loop_errors.append(context))
        self._stop = asyncio.Event()
        try:
            server = self.server = ControlServer.bind(self.path, self.operations, self.reloads)
            await loop.run_in_executor(None, self.bound)
            await server.start()
        except ListenError as error:
            self._started.set_exception(error)
            return
        self._started.set_result(loop)
        await self._stop.wait()
        await server.stop()
        self.tasks_left = asyncio.all_tasks() - {asyncio.current_task()}

    def start(self) -> None:
        """Return when the server answers; raises its error if it cannot start."""
        self._thread.start()
        self.loop = self._started.result(DEADLINE_S)

    def stop(self) -> None:
        """Return when the server has stopped; a server that does not stop fails the test."""
        if self._thread.is_alive():
            self.stop_soon()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "stop() hangs"
        assert not self.tasks_left, f"tasks left: {self.tasks_left}"

    def stop_soon(self) -> None:
        """Begin to stop the server."""
        self.loop.call_soon_threadsafe(self._stop.set)

    def on_loop(self, function: Callable[[], T]) -> T:
        """Call a function on the server's event loop and return its result."""
        done: Future[T] = Future()
        self.loop.call_soon_threadsafe(lambda: done.set_result(function()))
        return done.result(DEADLINE_S)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the server's event loop and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(DEADLINE_S)

    def curl(self, path: str, *options: str, data: object = None, as_user: tuple[str, ...] = ()) -> Answer:
        """Make one request with curl. ``data`` is sent with -d, as users do."""
        command = [*as_user, "curl", "-isS", "--max-time", str(DEADLINE_S)]
        command += ["--unix-socket", str(self.path), *options]
        if data is not None:
            command += ["-d", data if isinstance(data, str) else json.dumps(data)]
        done = subprocess.run([*command, f"http://epaird{path}"], capture_output=True, check=False)
        assert done.returncode == 0, done
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 100"):
            head, _, body = body.partition(b"\r\n\r\n")
        first, *lines = head.decode().lower().split("\r\n")
        return Answer(int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body.decode())

    def connect(self, *sent: bytes) -> socket.socket:
        """Return a connection on which these bytes are sent."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(DEADLINE_S)
        connection.connect(str(self.path))
        for part in sent:
            connection.sendall(part)
        return connection


@contextmanager
def serving(path: Path) -> Iterator[Control]:
    """Run a server; at the end it must stop without an error in its event loop."""
    running = Control(path)
    running.start()
    try:
        yield running
    finally:
        running.stop()
    assert running.loop_errors == []


def create(control: Control, name: str = "epair", **settings: object) -> str:
    """Create an interface and return its name."""
    answer = control.curl("/v1/interfaces", data={"name": name, "settings": settings})
    assert answer.status == 201
    made = answer.json["name"]
    assert isinstance(made, str)
    return made
