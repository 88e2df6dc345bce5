"""An ASGI application served on one listening socket of the control plane's own loop.

uvicorn's HTTP/1.1 protocol does it, without uvicorn's Server: its main loop wakes ten times a second
for ever (100 ms of CPU a minute, more than all the rest of an idle daemon), takes over the signal
handlers, and waits for clients when it stops.  What a client may do with a connection is bounded here,
because uvicorn times out only the wait for a second request.  While it is the client's turn, to say a
request to its end or to read the answer, a connection is one of at most so many, and has so much time;
one more, and the one that has been silent longest is cut, so that who has something to say always gets
in.  While it is our turn nothing presses.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol
from uvicorn.server import ServerState

BACKLOG: Final = 1024
"""Connections the kernel holds for us; above it a client would wait a second to try again."""


class ListenError(Exception):
    """Nothing can be served where it was asked for; the message is one line for the user."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may do to a server."""

    connections: int
    """Whose client's turn it is.  Each holds a file descriptor of the process that holds every device's."""
    exchange_seconds: float
    """How long it may be the client's turn."""
    stop_seconds: float
    """How long answers under way may take to leave when the server stops."""


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1 connection, bounded in time and number.

    The application finds it as ``scope["state"]["connection"]``."""

    since: float
    """When it was made or last completed an answer, by the loop's clock."""
    gone: asyncio.Event
    """Set once it is closed."""
    _deadline: asyncio.TimerHandle

    def __init__(self, config: Config, state: ServerState, limits: Limits) -> None:
        super().__init__(config, state, {}, asyncio.get_running_loop())
        self.app_state = {"connection": self}
        self._limits = limits
        self._streams = False
        self._last = False
        """The next answer is the last."""

    @property
    def clients_turn(self) -> bool:
        """The client has still to say its request to the end, or to read the answer.

        Not so of an endless answer: its reader may be as slow as it likes."""
        if self._streams:
            return False
        cycle = self.cycle
        answering = cycle is not None and not (cycle.response_complete or cycle.more_body)
        return not answering or self.flow.write_paused

    @contextlib.contextmanager
    def endless(self) -> Iterator[None]:
        """While in it, the answer is an endless one."""
        self._streams = True
        try:
            yield
        finally:
            self._streams = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.gone = asyncio.Event()
        self._restart_clock()
        if len(self.connections) > self._limits.connections:
            waiting = [connection for connection in _open(self.connections) if connection.clients_turn]
            if len(waiting) > self._limits.connections:
                min(waiting, key=lambda connection: connection.since).cut()

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except h11.LocalProtocolError:  # the malformed body of a request that was answered before
            self.cut()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, in the application's own form, and close."""
        headers, body = self.malformed(msg)
        headers = [*headers, (b"connection", b"close")]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=STATUS_PHRASES[400]),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def malformed(self, message: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Headers and body of the answer to what is no HTTP."""
        return [(b"content-type", b"text/plain; charset=utf-8")], message.encode("ascii")

    def on_response_complete(self) -> None:
        self._restart_clock()
        if self._last:
            self.shutdown()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        self.gone.set()
        super().connection_lost(exc)

    def finish(self) -> None:
        """Close it behind the answer under way, or behind the first, if nothing has been asked yet."""
        if self.cycle is None:
            self._last = True
        else:
            self.shutdown()

    def cut(self) -> None:
        """End it now, whatever is still to be sent."""
        self.connections.discard(self)
        self.transport.abort()

    def _restart_clock(self) -> None:
        if hasattr(self, "_deadline"):
            self._deadline.cancel()
        self.since = self.loop.time()
        self._deadline = self.loop.call_at(self.since + self._limits.exchange_seconds, self._late)

    def _late(self) -> None:
        if self.clients_turn:
            self.cut()
        else:
            self._restart_clock()


class Server:
    """Serves one application on one listening socket, from :meth:`start` to :meth:`stop`."""

    def __init__(
        self,
        listener: socket.socket,
        application: Callable[..., Awaitable[None]],
        limits: Limits,
        connection: type[Connection] = Connection,
    ) -> None:
        """Serve on ``listener``, which is the server's to close."""
        self.listener = listener
        self._limits = limits
        self._connection = connection
        self._server: asyncio.Server | None = None
        self._handed_over = False
        self._state = ServerState()
        self._config = Config(
            application,
            http=connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="error",  # a stranger's malformed request is no news
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=int(limits.exchange_seconds) + 1,  # ours ends it first
        )

    async def start(self) -> None:
        """Answer requests, those that have come since the socket began to listen included."""
        self._config.load()
        loop = asyncio.get_running_loop()

        def connect() -> Connection:
            return self._connection(self._config, self._state, self._limits)

        if self.listener.family == socket.AF_UNIX:
            # Since Python 3.13 closing would remove the file, which is not ours alone to remove.
            keep: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
            self._server = await loop.create_unix_server(connect, sock=self.listener, backlog=BACKLOG, **keep)
        else:
            self._server = await loop.create_server(connect, sock=self.listener, backlog=BACKLOG)

    def copy(self) -> int:
        """A copy of the listening socket, for who goes on with it; whoever has connected by the time this
        one stops is still answered here."""
        self._handed_over = True
        return os.dup(self.listener.fileno())

    async def stop(self, patience_s: float | None = None) -> None:
        """Close the socket, let answers under way leave, cut every other connection, end what is left.

        With ``patience_s`` there are so many seconds for that, and who has not asked yet may."""
        server = self._server
        if server is None:
            self.listener.close()
            return
        server.close()
        connections = _open(self._state.connections)
        for connection in connections:
            if self._handed_over or patience_s is not None:
                connection.finish()
            else:
                connection.shutdown()
        try:
            async with asyncio.timeout(self._limits.stop_seconds if patience_s is None else patience_s):
                await _all_gone(connections)
        except TimeoutError:
            for connection in _open(self._state.connections):
                connection.cut()
            await _all_gone(connections)
        await server.wait_closed()
        self._server = None
        await self.give_up()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks)

    async def give_up(self) -> None:
        """End requests that had no time to end by themselves; nobody waits for their answers any more."""


def _open(connections: Iterable[asyncio.Protocol]) -> list[Connection]:
    return [connection for connection in connections if isinstance(connection, Connection)]


async def _all_gone(connections: Iterable[Connection]) -> None:
    for connection in connections:
        await connection.gone.wait()
