"""The replacement of a worker's processes when one of them has died."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from epaird.control.tasks import spawn
from epaird.control.workers import starting
from epaird.control.workers.attachment import WorkerLost
from epaird.control.workers.link import Link
from epaird.control.workers.starting import Starter

log = logging.getLogger(__name__)


class Replacing:
    """Replaces the processes of one worker, one death after the other."""

    def __init__(
        self,
        name: str,
        starter: Starter,
        *,
        settle: Callable[[], Awaitable[None]],
        start: Callable[[], Awaitable[None]],
    ) -> None:
        """``name`` is the worker's. ``settle`` is called once its processes have ended, and then ``start``
        until it does not raise WorkerLost."""
        self._name = name
        self._starter = starter
        self._settle = settle
        self._start = start
        self._task: asyncio.Task[None] | None = None

    @property
    def under_way(self) -> bool:
        """True from the death of a process until its replacement is ready."""
        return self._task is not None and not self._task.done()

    def begin(self, links: Sequence[Link]) -> None:
        """Replace the processes of ``links``, at the first of which the death is logged."""
        self._task = spawn(self._replace(links), f"replacing {self._name}")

    async def stop(self) -> None:
        """Start no further replacement."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _replace(self, links: Sequence[Link]) -> None:
        for link in links[1:]:
            await link.terminate()
        how = await links[0].wait(starting.ENDING_S)
        log.warning("%s (pid %d) ended: %s; starting another", self._name, links[0].pid, how)
        try:
            await self._settle()
        except Exception:
            log.exception("internal error: settling %s failed", self._name)
        self._starter.ended(time.monotonic() - max(link.started_at for link in links))
        while True:
            await self._starter.pause()
            try:
                await self._start()
            except WorkerLost as error:
                log.warning("%s; starting another", error)
            else:
                break
        self._starter.keep_spare()
