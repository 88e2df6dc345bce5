"""The daemon's page for machines: ``/metrics`` for Prometheus, ``/healthz`` for who supervises it."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from epaird import __version__
from epaird.control.http.serving import BACKLOG, Limits, ListenError, Server
from epaird.control.metrics.collector import metrics_registry
from epaird.control.metrics.exposition import (
    CONTENT_TYPE,
    CONTENT_TYPE_OPENMETRICS,
    encode,
    wants_openmetrics,
)
from epaird.control.readings import Reading

__all__ = ["ListenError", "MetricsServer", "application"]

EXCHANGE_SECONDS: Final = 75.0
"""Longer than the usual scrape interval of a minute, so that a scraper keeps its connection."""

CONNECTIONS_MAX: Final = 64
"""Each holds a file descriptor of the process that holds every device's."""

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


class MetricsServer(Server):
    """Serves :func:`application` on one listening socket, from :meth:`start` to :meth:`stop`."""

    def __init__(self, listener: socket.socket, read: Callable[[], Reading]) -> None:
        """Serve on ``listener``, which is the server's to close."""
        super().__init__(listener, application(read), Limits(CONNECTIONS_MAX, EXCHANGE_SECONDS, STOP_SECONDS))
        self.address: tuple[str, int] = listener.getsockname()[:2]
        """Where it listens: the address and the port, the real one also when 0 was asked for."""

    @classmethod
    def bind(cls, host: str, port: int, read: Callable[[], Reading]) -> MetricsServer:
        """A server that holds its port already and answers once started.

        Raises :class:`ListenError` when the address cannot be listened on.
        """
        return cls(listen(host, port), read)

    @property
    def url(self) -> str:
        """The metrics page's, for people."""
        return f"http://{_host_port(*self.address)}/metrics"


def listen(host: str, port: int, ours: socket.socket | None = None) -> socket.socket:
    """A socket that listens there: ``ours``, if it does, or else another, though ``ours`` may have the port.

    Raises :class:`ListenError`; may have to ask for the address of a name, and wait for the answer."""
    try:
        family, _, _, _, found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        address = (str(found[0]), port)
        if ours is not None and ours.family == family and _same(ours.getsockname()[:2], address):
            return ours
        try:
            return socket.create_server(address, family=family, backlog=BACKLOG)
        except OSError as error:
            if ours is None or error.errno != errno.EADDRINUSE:
                raise
            return _listen_beside(ours, family, address)
    except socket.gaierror:
        fault = f"{host!r} is neither an address nor a known host name"
    except OSError as error:
        code = error.errno or 0
        fault = _host_port(host, port) + (_BIND_FAULTS.get(code) or f": {os.strerror(code)}")
    raise ListenError(f"metrics.listen: {fault}")


def _same(there: tuple[str, int], wanted: tuple[str, int]) -> bool:
    return there[0] == wanted[0] and wanted[1] in (0, there[1])


def _listen_beside(ours: socket.socket, family: int, address: tuple[str, int]) -> socket.socket:
    """A socket for an address that includes another of ours, or is included: 0.0.0.0 beside 127.0.0.1.

    The kernel lets two have one port when both agree, for as long as both of them are being bound."""
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        made = socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=True)
    finally:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
    return made


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
