"""The metrics page of the daemon: where the configuration has it, elsewhere when that changes.

Where it listens is bound before anything is done that depends on it, and outlives an execve(): whoever
connects meanwhile waits instead of being refused.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from epaird.config.settings import MetricsSettings
from epaird.control.metrics.web import EXCHANGE_SECONDS, MetricsServer, listen
from epaird.control.readings import Reading
from epaird.control.tasks import spawn, together

log = logging.getLogger(__name__)


class MetricsPage:
    """At one place at a time, or at none."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        """``read`` is called once for each scrape."""
        self._read = read
        self._server: MetricsServer | None = None
        self._going: set[MetricsServer] = set()
        """Those that have yet to answer who is connected."""

    @property
    def url(self) -> str | None:
        """For people; None when there is no page."""
        return self._server.url if self._server is not None else None

    def open(self, settings: MetricsSettings, passed: socket.socket | None = None) -> None:
        """Listen; whoever connects waits until :meth:`start`.

        ``passed`` listens already, and is used or closed.  Raises ListenError."""
        try:
            found = _listening(settings, passed)
        except BaseException:
            if passed is not None:
                passed.close()
            raise
        if passed is not None and found is not passed:
            passed.close()
        self._server = MetricsServer(found, self._read) if found is not None else None

    async def start(self) -> None:
        """Answer."""
        if self._server is not None:
            await self._server.start()

    @asynccontextmanager
    async def moving(self, settings: MetricsSettings) -> AsyncIterator[None]:
        """Listen also where these settings say, and from the end of the block on only there; if it fails,
        only where it was.  Raises ListenError before the block.

        Requests under way are answered to their end."""
        before = self._server
        there = before.listener if before is not None else None
        found = await asyncio.to_thread(_listening, settings, there)
        if found is there:
            yield
            return
        fresh = MetricsServer(found, self._read) if found is not None else None
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
            self._going.add(before)
            spawn(self._retire(before), "answering at the old address of the metrics page")
        log.info("metrics: %s", self.url or "no page any more")

    def copy(self) -> int | None:
        """A copy of the listening socket, for who goes on with it; None when there is no page."""
        return self._server.copy() if self._server is not None else None

    async def stop(self) -> None:
        """Answer no more, nowhere."""
        servers = [*self._going, *([self._server] if self._server is not None else [])]
        await together(*(server.stop() for server in servers))

    async def _retire(self, server: MetricsServer) -> None:
        try:
            await server.stop(EXCHANGE_SECONDS)
        finally:
            self._going.discard(server)


def _listening(settings: MetricsSettings, there: socket.socket | None) -> socket.socket | None:
    """A socket that listens where the settings say: ``there``, if that is the place."""
    if settings.host is None or settings.port is None:
        return None
    return listen(settings.host, settings.port, there)
