"""Starting a worker process: from its launch, or out of the reserve, until it takes requests."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from epaird.control.tasks import whole
from epaird.control.workers.attachment import WorkerLost
from epaird.control.workers.link import Link
from epaird.control.workers.processes import Launched, Spares, launch
from epaird.ipc.ledger import Table
from epaird.ipc.messages import Start

BACKOFF_S: Final = (0.0, 0.1, 0.5, 2.0, 5.0)
"""Pauses in seconds before the first, second, ... replacement of a process that does not stay."""
STAYED_S: Final = 10.0
"""Seconds after which a process counts as having stayed."""
STARTS: Final = 3
"""Attempts to start a process where failing would end more than the start: during a takeover."""
STARTING_S: Final = 5.0
"""Seconds that a new process has until it is ready; then it is killed. The next one has twice as long, since
the machine may be that busy."""
SPARE_STARTING_S: Final = 1.0
"""Seconds that a spare has, which has nothing left to prepare."""
ENDING_S: Final = 2.0
"""Seconds that a process has to end when it is requested to; then it is killed."""


class Starter:
    """Starts processes of one worker, and counts those in a row that did not stay."""

    def __init__(self, name: str, table: Table, spares: Spares | None, directory: Path | None) -> None:
        """``name`` is the worker's. A process is taken from ``spares`` where there are any, and listens in
        ``directory``, where there is one, for the next control plane."""
        self._name = name
        self._table = table
        self._spares = spares
        self._directory = directory
        self._failures = 0

    async def launch(self) -> Launched:
        """Return a process that waits for its first message. Raises WorkerLost."""
        try:
            return await whole(self._spares.take() if self._spares is not None else launch())
        except OSError as error:
            raise WorkerLost(f"{self._name} cannot be started: {error}") from error

    async def begin(self, link: Link, settings: Start, *, spare: bool) -> None:
        """Wait until a process is ready. Raises WorkerLost, and then the process has ended."""
        patience_s = self._patience_s(spare)
        try:
            async with asyncio.timeout(patience_s):
                await link.begin(settings, self._table.fd, self._directory)
        except TimeoutError:
            await link.terminate()
            raise WorkerLost(
                f"{self._name} (pid {link.pid}) was not ready within {patience_s:g} s and was killed"
            ) from None
        except WorkerLost:
            how = await link.wait(ENDING_S)
            raise WorkerLost(f"{self._name} ended before it was ready: {how}") from None

    def keep_spare(self) -> None:
        """Replace a spare that was taken."""
        if self._spares is not None:
            self._spares.keep()

    def ended(self, ran_s: float) -> None:
        """Record that a process has ended after ``ran_s`` seconds."""
        if ran_s > STAYED_S:
            self._failures = 0

    async def pause(self) -> None:
        """Wait before the next attempt, the longer the more processes in a row did not stay."""
        await asyncio.sleep(BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)])
        self._failures += 1

    def _patience_s(self, spare: bool) -> float:
        if spare:
            return SPARE_STARTING_S
        return STARTING_S * (1 << min(max(0, self._failures - 1), len(BACKOFF_S)))
