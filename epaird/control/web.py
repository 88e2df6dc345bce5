"""The daemon's page for machines: ``/metrics`` for Prometheus, ``/healthz`` for who supervises it.

uvicorn's HTTP/1.1 protocol serves it on the control plane's own loop, without uvicorn's Server:
its main loop wakes ten times a second for ever (100 ms of CPU a minute, more than all the rest of an
idle daemon), takes over the signal handlers, and waits for clients when it stops.  What a
stranger may do with a connection is bounded here, because uvicorn times out only the wait for a
second request: a connection without a complete exchange for ``EXCHANGE_SECONDS`` is cut, and so
is the one longest without when there are more than ``CONNECTIONS_MAX``.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Iterable
from typing import Final

from h11 import LocalProtocolError
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from epaird import __version__
from epaird.control.collector import metrics_registry
from epaird.control.exposition import CONTENT_TYPE, CONTENT_TYPE_OPENMETRICS, encode, wants_openmetrics
from epaird.control.readings import Reading

EXCHANGE_SECONDS: Final = 75
"""Longer than the usual scrape interval of a minute, so that a scraper keeps its connection."""

CONNECTIONS_MAX: Final = 64
"""Each holds a file descriptor of the process that holds every device's."""

BACKLOG: Final = 1024
"""Connections the kernel holds for us; above it a scraper would wait a second to try again."""

STOP_SECONDS: Final = 1.0
"""How long answers under way may take to leave when the server stops."""

GZIP_LEVEL: Final = 1
"""2000 interfaces: 141 KB in 5 ms, where level 9 makes 126 KB in 42 ms."""

_INDEX: Final = f"""<!doctype html>
<html lang="en"><title>epaird</title>
<h1>epaird {__version__}</h1>
<ul><li><a href="/metrics">/metrics</a> for Prometheus</li>
<li><a href="/healthz">/healthz</a> 200 while every worker is alive</li></ul>
</html>
"""

_BIND_FAULTS: Final = {
    errno.EADDRINUSE: " is in use by another program",
    errno.EADDRNOTAVAIL: " is no address of this machine",
    errno.EACCES: " needs root, or a port of 1024 or above",
}


class ListenError(Exception):
    """The page cannot be served at the address asked for; the message is one line for the user."""


def application(read: Callable[[], Reading]) -> Starlette:
    """The ASGI application over ``read``, which is called once for each scrape and health check."""
    registry = metrics_registry(read)

    async def metrics(request: Request) -> Response:
        return _exposition(registry, ",".join(request.headers.getlist("accept")))

    async def healthz(_request: Request) -> Response:
        return _health(read())

    async def index(_request: Request) -> Response:
        return HTMLResponse(_INDEX)

    return Starlette(
        routes=[Route("/", index), Route("/metrics", metrics), Route("/healthz", healthz)],
        middleware=[Middleware(GZipMiddleware, minimum_size=1024, compresslevel=GZIP_LEVEL)],
    )


def _exposition(registry: CollectorRegistry, accept: str) -> Response:
    openmetrics = wants_openmetrics(accept)
    content_type = CONTENT_TYPE_OPENMETRICS if openmetrics else CONTENT_TYPE
    page = encode(registry.collect(), openmetrics=openmetrics)
    return Response(page, headers={"content-type": content_type, "vary": "Accept"})


def _health(reading: Reading) -> Response:
    dead = [worker.worker for worker in reading.workers if not worker.alive]
    if not dead:
        return PlainTextResponse("ok\n")
    return PlainTextResponse("".join(f"worker {worker} is not alive\n" for worker in dead), status_code=503)


class _Connection(H11Protocol):
    """uvicorn's HTTP/1.1 connection, bounded in time and number."""

    since: float
    """When it was made or last completed an answer, by the loop's clock."""
    gone: asyncio.Event
    """Set once it is closed."""
    _deadline: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.gone = asyncio.Event()
        self._restart_clock()
        if len(self.connections) > CONNECTIONS_MAX:
            min(_open(self.connections), key=lambda connection: connection.since).cut()

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except LocalProtocolError:  # uvicorn answers 400 to the malformed body of a request answered before
            self.cut()

    def on_response_complete(self) -> None:
        self._deadline.cancel()
        self._restart_clock()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        self.gone.set()
        super().connection_lost(exc)

    def cut(self) -> None:
        """End it now, whatever is still to be sent."""
        self.connections.discard(self)
        self.transport.abort()

    def _restart_clock(self) -> None:
        self.since = self.loop.time()
        self._deadline = self.loop.call_at(self.since + EXCHANGE_SECONDS, self.cut)


def _open(connections: Iterable[asyncio.Protocol]) -> list[_Connection]:
    return [connection for connection in connections if isinstance(connection, _Connection)]


class MetricsServer:
    """Serves :func:`application` on one listening socket, from :meth:`start` to :meth:`stop`."""

    def __init__(self, listener: socket.socket, read: Callable[[], Reading]) -> None:
        """Serve on ``listener``, which is the server's to close."""
        self.address: tuple[str, int] = listener.getsockname()[:2]
        """Where it listens: the address and the port, the real one also when 0 was asked for."""
        self._listener = listener
        self._server: asyncio.Server | None = None
        self._state = ServerState()
        self._config = Config(
            application(read),
            http=_Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="error",  # a stranger's malformed request is no news
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=EXCHANGE_SECONDS,
        )

    @classmethod
    def bind(cls, host: str, port: int, read: Callable[[], Reading]) -> MetricsServer:
        """A server that holds its port already and answers once started.

        Raises :class:`ListenError` when the address cannot be listened on.
        """
        return cls(_listen(host, port), read)

    @property
    def url(self) -> str:
        """The metrics page's, for people."""
        return f"http://{_host_port(*self.address)}/metrics"

    async def start(self) -> None:
        """Answer requests, those that have come since the port was bound included."""
        self._config.load()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self._config, self._state, {}, loop), sock=self._listener, backlog=BACKLOG
        )

    async def stop(self) -> None:
        """Close the port, let answers under way leave, cut every other connection."""
        if self._server is None:
            self._listener.close()
            return
        self._server.close()
        connections = _open(self._state.connections)
        for connection in connections:
            connection.shutdown()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await _all_gone(connections)
        except TimeoutError:
            for connection in _open(self._state.connections):
                connection.cut()
            await _all_gone(connections)
        await self._server.wait_closed()
        self._server = None


async def _all_gone(connections: Iterable[_Connection]) -> None:
    for connection in connections:
        await connection.gone.wait()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except socket.gaierror:
        fault = f"{host!r} is neither an address nor a known host name"
    except OSError as error:
        code = error.errno or 0
        fault = _host_port(host, port) + (_BIND_FAULTS.get(code) or f": {os.strerror(code)}")
    raise ListenError(f"metrics.listen: {fault}")


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
