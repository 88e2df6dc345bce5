"""The upkeep of the run directory: what others remove from it, or replace, is created again.

The next control plane finds this one's workers and state by the files in the directory, and clients find the
daemon by its socket. So the directory is watched, with everything above it; after an event, and at intervals
because no event reports a mount, each entry is compared with what the daemon has. Clients that are connected
are not concerned, nor is forwarding. A failure is logged once for each reason, and tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from epaird.control.handover.rundirectory import RunDirectory
from epaird.control.http.listening import ListenError
from epaird.control.tasks import spawn
from epaird.control.workers.worker import WorkerLost, WorkerRefused
from epaird.kernel.errors import KernelError
from epaird.kernel.netnswatch import NameWatch

log = logging.getLogger(__name__)

CHECK_S: Final = 2.0
"""Interval of checks without an event, in seconds."""
QUIET_S: Final = 0.01
"""Pause between an event and the check, in seconds: several files may be removed one after the other."""
_FAILURES: Final = (KernelError, ListenError, OSError, WorkerLost, WorkerRefused)


@dataclass(frozen=True, slots=True)
class Restorable:
    """Files of one kind in the run directory."""

    what: str
    """The files in the log: ``the control socket``."""
    exist: Callable[[], bool]
    """Returns whether all of them are there and are the daemon's."""
    restore: Callable[[], Awaitable[None]]
    """Creates them again."""


class Upkeep:
    """The upkeep of one directory, from :meth:`start` to :meth:`stop`."""

    def __init__(self, directory: RunDirectory, entries: Sequence[Restorable]) -> None:
        """``entries`` are restored in their order."""
        self._directory = directory
        self._entries = entries
        self._reported: dict[str, str] = {}
        """The failure that was logged last, by what it concerns."""
        self._event = asyncio.Event()
        self._checking = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._task = spawn(self._run(), f"watching {self._directory.path}")

    async def stop(self) -> None:
        """Stop watching. A second call does nothing."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    async def check(self) -> None:
        """Compare everything once, and create again what is missing."""
        async with self._checking:
            path, level = str(self._directory.path), logging.WARNING
            if not self._directory.held:
                if not await self._restored(path, self._lock_again, level):
                    return
                level = logging.DEBUG  # what was in it is no further news
            for entry in self._entries:
                if not entry.exist():
                    await self._restored(f"{entry.what} in {path}", entry.restore, level)

    async def _restored(self, what: str, restore: Callable[[], Awaitable[None]], level: int) -> bool:
        """Create something again and log that with this level; return whether it succeeded."""
        try:
            await restore()
        except _FAILURES as error:
            if self._reported.get(what) != str(error):
                self._reported[what] = str(error)
                log.error("%s: removed or replaced by others, and not created again yet: %s", what, error)
            return False
        self._reported.pop(what, None)
        log.log(level, "%s: removed or replaced by others: created again", what)
        return True

    async def _lock_again(self) -> None:
        self._directory.restore()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        watch, claim = NameWatch(str(self._directory.path)), self._directory.claim
        with contextlib.ExitStack() as undo:
            undo.callback(watch.close)
            if watch.problem is not None:
                log.warning("%s: the run directory is only checked every %g s", watch.problem, CHECK_S)
            for fd, callback in ((watch.fileno(), self._changed), (claim.fileno(), claim.answer)):
                if fd >= 0:
                    arguments = (watch,) if callback == self._changed else ()
                    loop.add_reader(fd, callback, *arguments)
                    undo.callback(loop.remove_reader, fd)
            while True:
                await self.check()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_S):
                        await self._event.wait()
                        await asyncio.sleep(QUIET_S)
                self._event.clear()

    def _changed(self, watch: NameWatch) -> None:
        watch.drain()
        self._event.set()
