"""Serves an ASGI application on one listening socket of the control plane's event loop.

It uses uvicorn's HTTP/1.1 protocol without uvicorn's Server. The Server's main loop wakes ten times a second
(100 ms of CPU a minute, more than all the rest of an idle daemon), takes over the signal handlers, and waits
for clients when it stops.

Connections are bounded here in number and time, because uvicorn limits only the time until the next
request. While the server waits for the client, to send the rest of a request or to read the answer, the
connection counts against a maximum number, and its time is limited. When there is one more than the
maximum, or too few descriptors for one more (:mod:`epaird.control.machine.descriptors`), the connection that
has been silent longest is cut, so that a new client gets in. While the server works on an answer its time is
not limited. A client for which no other can be cut is turned away with 503.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol
from uvicorn.server import ServerState

from epaird.control.http.accepting import Acceptor
from epaird.control.http.lingering import LingeringTransport
from epaird.control.machine.descriptors import Descriptors, Purpose


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a server's clients."""

    connections: int
    """Connections that may wait for their client. Each holds a descriptor of the process that holds every
    device's."""
    exchange_seconds: float
    """Time that a connection may wait for its client."""
    stop_seconds: float
    """Time for answers under way to be sent when the server stops."""


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1 connection, bounded in time and number.

    The application finds it as ``scope["state"]["connection"]``."""

    since: float
    """Time when it was opened or its last answer was complete, by the event loop's clock."""
    closed: asyncio.Event
    """Set once the connection is closed."""
    _deadline: asyncio.TimerHandle
    _lingering: LingeringTransport

    def __init__(self, config: Config, state: ServerState, limits: Limits) -> None:
        super().__init__(config, state, {}, asyncio.get_running_loop())
        self.app_state = {"connection": self}
        self._limits = limits
        self._endless = False
        self._last = False
        """True if the connection closes after the next answer."""

    @property
    def waits_for_client(self) -> bool:
        """True while the client has to send the rest of a request or to read the answer.

        False for an endless answer, whose reader may be slow."""
        if self._endless:
            return False
        cycle = self.cycle
        answering = cycle is not None and not (cycle.response_complete or cycle.more_body)
        return not answering or self.flow.write_paused

    @contextlib.contextmanager
    def endless(self) -> Iterator[None]:
        """Mark the answer that is sent in this context as endless."""
        self._endless = True
        try:
            yield
        finally:
            self._endless = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._lingering = LingeringTransport(transport, self._client_sends)
        super().connection_made(self._lingering)  # type: ignore[arg-type]
        self.closed = asyncio.Event()
        self._restart_clock()
        self._cut_surplus()

    def data_received(self, data: bytes) -> None:
        if self._lingering.lingers:
            self._lingering.discard(data)
            return
        if self.conn.their_state is h11.MUST_CLOSE:
            return  # It follows the client's last request, which is to be answered (RFC 9112, 9.6).
        try:
            super().data_received(data)
        except h11.LocalProtocolError:  # the malformed rest of a request that was answered
            self.cut()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not HTTP in the application's form, and close."""
        if (cycle := self.cycle) is not None and not cycle.response_complete:
            # The application may be waiting for the rest of this request, and must not answer it.
            cycle.disconnected = True
            cycle.message_event.set()
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
        """Return headers and body of the answer to bytes that are not HTTP."""
        return [(b"content-type", b"text/plain; charset=utf-8")], message.encode("ascii")

    def on_response_complete(self) -> None:
        self._restart_clock()
        if self._last:
            self.shutdown()
        super().on_response_complete()
        self._cut_surplus()  # it waits for its client again

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        self._lingering.closed()
        self.closed.set()
        super().connection_lost(exc)

    def finish(self) -> None:
        """Close the connection after the answer under way, or after the first if there was no request yet."""
        if self.cycle is None:
            self._last = True
        else:
            self.shutdown()

    def cut(self) -> None:
        """Close the connection now, without sending the rest of an answer."""
        self.connections.discard(self)
        self.transport.abort()

    def _client_sends(self) -> bool:
        return self.conn.their_state in (h11.SEND_BODY, h11.ERROR)

    def _cut_surplus(self) -> None:
        if len(self.connections) > self._limits.connections:
            waiting = [connection for connection in _open(self.connections) if connection.waits_for_client]
            if len(waiting) > self._limits.connections:
                cut_silent(waiting)

    def _restart_clock(self) -> None:
        if hasattr(self, "_deadline"):
            self._deadline.cancel()
        self.since = self.loop.time()
        self._deadline = self.loop.call_at(self.since + self._limits.exchange_seconds, self._expire)

    def _expire(self) -> None:
        if self.waits_for_client:
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
        descriptors: Descriptors | None = None,
    ) -> None:
        """Serve on ``listener``, which the server closes. ``descriptors`` are those of this process."""
        self.listener = listener
        self._limits = limits
        self._connection = connection
        self._descriptors = descriptors or Descriptors()
        self._acceptor: Acceptor | None = None
        self._handed_over = False
        self._state = ServerState()
        self._config = Config(
            application,
            http=connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="error",  # a malformed request is not worth a log line
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=int(limits.exchange_seconds) + 1,  # Connection's own limit ends it earlier
        )

    async def start(self) -> None:
        """Answer requests, including those that arrived since the socket began to listen."""
        self._config.load()
        self._acceptor = self._accepting(self.listener)

    def _accepting(self, listener: socket.socket) -> Acceptor:
        """Return an acceptor that has started."""

        def connect() -> Connection:
            return self._connection(self._config, self._state, self._limits)

        acceptor = Acceptor(
            listener, connect, self._objection, lambda: self.turned_away("too many files are open")
        )
        acceptor.start()
        return acceptor

    @property
    def connections(self) -> list[Connection]:
        """The connections that are open."""
        return _open(self._state.connections)

    def turned_away(self, reason: str) -> bytes:
        """Return the answer to a client that is not admitted."""
        body = f"{reason}, try again later\n".encode()
        return answer_503(b"text/plain; charset=utf-8", body)

    def _objection(self, connection: socket.socket) -> bytes | None:  # noqa: ARG002  for subclasses
        """Return the answer with which a new client is turned away; None admits it."""
        return self._make_room(Purpose.PAGE, self.connections)

    def _make_room(self, purpose: Purpose, others: Sequence[Connection]) -> bytes | None:
        """Cut a silent one of ``others`` if there are too few descriptors for one more connection.

        The first connection is always admitted."""
        if self._descriptors.have_room(purpose) or not others or cut_silent(others):
            return None
        return self.turned_away("too many files are open")

    def copy(self) -> int:
        """Return a copy of the listening socket for the next control plane.

        This server still answers the clients that connect before it stops."""
        self._handed_over = True
        return os.dup(self.listener.fileno())

    async def stop(self, patience_s: float | None = None) -> None:
        """Close the socket, send the answers under way, cut all other connections, abandon other requests.

        With ``patience_s`` answers may take that many seconds, and clients may still make a first request."""
        acceptor = self._acceptor
        if acceptor is None:
            self.listener.close()
            return
        await acceptor.close()
        connections = self.connections
        for connection in connections:
            if self._handed_over or patience_s is not None:
                connection.finish()
            else:
                connection.shutdown()
        try:
            async with asyncio.timeout(self._limits.stop_seconds if patience_s is None else patience_s):
                await _all_closed(connections)
        except TimeoutError:
            for connection in self.connections:
                connection.cut()
            await _all_closed(connections)
        self._acceptor = None
        await self.abandon()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks)

    async def abandon(self) -> None:
        """End the requests that are left; their connections are closed."""


def cut_silent(connections: Iterable[Connection]) -> bool:
    """Cut the connection that has waited longest for its client; return False if none waits."""
    waiting = [connection for connection in connections if connection.waits_for_client]
    if not waiting:
        return False
    min(waiting, key=lambda connection: connection.since).cut()
    return True


def answer_503(media_type: bytes, body: bytes) -> bytes:
    """Return a whole HTTP answer, after which the connection is closed."""
    lines = (
        b"HTTP/1.1 503 Service Unavailable",
        b"content-type: " + media_type,
        b"content-length: %d" % len(body),
        b"retry-after: 1",
        b"connection: close",
    )
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _open(connections: Iterable[asyncio.Protocol]) -> list[Connection]:
    return [connection for connection in connections if isinstance(connection, Connection)]


async def _all_closed(connections: Iterable[Connection]) -> None:
    for connection in connections:
        await connection.closed.wait()
