"""The server of the metrics page: ``/metrics`` for Prometheus, ``/healthz`` for supervisors of the daemon."""

from __future__ import annotations

import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from epaird import __version__
from epaird.control.http.listening import host_port, listen
from epaird.control.http.server import Limits, Server
from epaird.control.machine.descriptors import Descriptors
from epaird.control.metrics.collector import metrics_registry
from epaird.control.metrics.compression import ContentCoding
from epaird.control.metrics.exposition import CONTENT_TYPE_OPENMETRICS, encode, formats
from epaird.control.readings import Reading
from epaird.kernel.errors import LACKING, KernelError

KEY: Final = "metrics.listen"
"""The configuration's key of the address."""

EXCHANGE_SECONDS: Final = 75.0
"""Longer than the usual scrape interval of a minute, so that a scraper keeps its connection."""

CONNECTIONS_MAX: Final = 64
"""Each holds a file descriptor of the process that holds every device's."""

STOP_SECONDS: Final = 1.0
"""Time for answers under way to be sent when the server stops."""

_INDEX: Final = f"""<!doctype html>
<html lang="en"><title>epaird</title>
<h1>epaird {__version__}</h1>
<ul><li><a href="/metrics">/metrics</a> for Prometheus</li>
<li><a href="/healthz">/healthz</a> 200 while every worker is alive</li></ul>
</html>
"""


def application(read: Callable[[], Reading]) -> Starlette:
    """Return the ASGI application. ``read`` is called once for each scrape and each health check."""
    registry = metrics_registry(read)

    async def metrics(request: Request) -> Response:
        return _exposition(registry, ",".join(request.headers.getlist("accept")))

    async def healthz(_request: Request) -> Response:
        return _health(read())

    async def index(_request: Request) -> Response:
        return HTMLResponse(_INDEX)

    async def unavailable(_request: Request, exception: Exception) -> Response:
        """Answer when descriptors or memory are lacking. Other errors are internal ones."""
        if getattr(exception, "errno", None) not in LACKING:
            raise exception
        return PlainTextResponse(f"{exception}\n", status_code=HTTPStatus.SERVICE_UNAVAILABLE)

    return Starlette(
        exception_handlers={OSError: unavailable, KernelError: unavailable},
        routes=[Route("/", index), Route("/metrics", metrics), Route("/healthz", healthz)],
        middleware=[Middleware(ContentCoding)],
    )


def _exposition(registry: CollectorRegistry, accept: str) -> Response:
    content_type = next(iter(formats(accept)), None)
    if content_type is None:
        text = "the metrics are text/plain or application/openmetrics-text, and the request excludes both\n"
        return PlainTextResponse(text, HTTPStatus.NOT_ACCEPTABLE, {"vary": "Accept"})
    page = encode(registry.collect(), openmetrics=content_type == CONTENT_TYPE_OPENMETRICS)
    return Response(page, headers={"content-type": content_type, "vary": "Accept"})


def _health(reading: Reading) -> Response:
    dead = [worker.worker for worker in reading.workers if not worker.alive]
    if not dead:
        # A missing interface is no reason to restart the daemon, and a full disk is none.
        lines = ["ok", *(f"{name} is missing" for name in reading.missing)]
        if reading.state_problem:
            lines.append(f"the state cannot be written: {reading.state_problem}")
        return PlainTextResponse("".join(f"{line}\n" for line in lines))
    return PlainTextResponse("".join(f"worker {worker} is not alive\n" for worker in dead), status_code=503)


class MetricsServer(Server):
    """Serves :func:`application` on one listening socket, from :meth:`start` to :meth:`stop`."""

    def __init__(
        self, listener: socket.socket, read: Callable[[], Reading], descriptors: Descriptors | None = None
    ) -> None:
        """Serve on ``listener``, which the server closes."""
        limits = Limits(CONNECTIONS_MAX, EXCHANGE_SECONDS, STOP_SECONDS)
        super().__init__(listener, application(read), limits, descriptors=descriptors)
        self.address: tuple[str, int] = listener.getsockname()[:2]
        """Address and port of the listener; if port 0 was requested, the port that the kernel chose."""

    @classmethod
    def bind(cls, host: str, port: int, read: Callable[[], Reading]) -> MetricsServer:
        """Return a server that listens at an address and answers once started. Raises ListenError."""
        return cls(listen(KEY, host, port), read)

    @property
    def url(self) -> str:
        """URL of the metrics page."""
        return f"http://{host_port(*self.address)}/metrics"
