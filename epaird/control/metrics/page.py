"""The metrics page of the daemon, which moves when the configuration's address changes.

Its address is bound before anything that depends on it, and the socket outlives an execve(): clients that
connect in between wait and are not refused.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from epaird.config.settings import MetricsSettings
from epaird.control.http.listening import listen
from epaird.control.machine.descriptors import Descriptors
from epaird.control.metrics.server import EXCHANGE_SECONDS, KEY, MetricsServer
from epaird.control.readings import Reading
from epaird.control.tasks import in_thread, spawn, together

log = logging.getLogger(__name__)


class MetricsPage:
    """The metrics page, at one address or at none."""

    def __init__(self, read: Callable[[], Reading], descriptors: Descriptors | None = None) -> None:
        """``read`` is called once for each scrape; ``descriptors`` are those of this process."""
        self._read = read
        self._descriptors = descriptors
        self._server: MetricsServer | None = None
        self._retiring: set[MetricsServer] = set()
        """Servers at earlier addresses, which answer the clients that are connected and no others."""

    @property
    def url(self) -> str | None:
        """URL of the page; None if there is no page."""
        return self._server.url if self._server is not None else None

    def open(self, settings: MetricsSettings, passed: socket.socket | None = None) -> None:
        """Listen at the configured address; clients wait until :meth:`start`.

        ``passed`` is a socket that listens already; it is used or closed. Raises ListenError."""
        try:
            found = _listener(settings, passed)
        except BaseException:
            if passed is not None:
                passed.close()
            raise
        if passed is not None and found is not passed:
            passed.close()
        self._server = MetricsServer(found, self._read, self._descriptors) if found is not None else None

    async def start(self) -> None:
        """Answer clients."""
        if self._server is not None:
            await self._server.start()

    @asynccontextmanager
    async def moving(self, settings: MetricsSettings) -> AsyncIterator[None]:
        """Listen at another address too; after the block at that one only or, if it fails, at the old one.

        Requests under way are answered. Raises ListenError before the block."""
        before = self._server
        current = before.listener if before is not None else None

        def discard(late: socket.socket | None) -> None:
            if late is not None and late is not current:
                late.close()

        found = await in_thread(_listener, settings, current, unwanted=discard)
        if found is current:
            yield
            return
        fresh = MetricsServer(found, self._read, self._descriptors) if found is not None else None
        try:
            yield
            if fresh is not None:
                await fresh.start()
        except BaseException:
            if fresh is not None:
                await fresh.stop()
            raise
        self._server = fresh
        if before is not None:
            self._retiring.add(before)
            spawn(self._retire(before), "answering at the old address of the metrics page")
        log.info("metrics: %s", self.url or "no page any more")

    def copy(self) -> int | None:
        """Return a copy of the listening socket for the next control plane; None if there is no page."""
        return self._server.copy() if self._server is not None else None

    async def stop(self) -> None:
        """Stop every server."""
        servers = [*self._retiring, *([self._server] if self._server is not None else [])]
        await together(*(server.stop() for server in servers))

    async def _retire(self, server: MetricsServer) -> None:
        try:
            await server.stop(EXCHANGE_SECONDS)
        finally:
            self._retiring.discard(server)


def _listener(settings: MetricsSettings, current: socket.socket | None) -> socket.socket | None:
    """Return a socket that listens at the configured address, ``current`` if it does; None for no page."""
    if settings.host is None or settings.port is None:
        return None
    return listen(KEY, settings.host, settings.port, current)
