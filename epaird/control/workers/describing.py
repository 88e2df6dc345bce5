"""The examination of a process that a predecessor started: which version of epaird it runs."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable
from typing import Final

from epaird import __version__
from epaird.control.workers.attachment import WorkerLost
from epaird.control.workers.output import Output
from epaird.ipc.messages import Description

log = logging.getLogger(__name__)

ANSWER_S: Final = 5.0
"""Seconds that :meth:`Examination.other_version` waits for the answer."""
UNDESCRIBED: Final = "0.3.0 or older"
"""Version of a process that refuses to describe itself."""


class Examination:
    """The request for a description of one process.

    With the request the process is given another standard error, since its own leads to the predecessor."""

    def __init__(self, name: str, pid: int, request: Callable[[int], asyncio.Future[None]]) -> None:
        """Send the request.

        ``name`` is the worker's; ``request`` sends Describe with a descriptor and returns the answer."""
        self._pid = pid
        self._request = request
        self._answer: asyncio.Future[None] | None = None
        try:
            self._answer = self._send()
        except OSError as error:
            log.warning("%s (pid %d): its error messages are lost: %s", name, pid, error.strerror)

    async def other_version(self, description: Callable[[], Description | None]) -> str:
        """Return the version that the process runs, or an empty string if it is this one's, or if the process
        ends: its replacement runs this version.

        ``description`` returns what the process has reported. Raises OSError when the process cannot be asked
        or does not answer in time."""
        if self._answer is None:
            self._answer = self._send()
        await asyncio.wait((self._answer,), timeout=ANSWER_S)
        if not self._answer.done():
            raise TimeoutError(errno.ETIMEDOUT, "its process does not report its version")
        if isinstance(self._answer.exception(), WorkerLost):
            return ""
        described = description()
        version = described.version if described is not None else UNDESCRIBED
        return version if version != __version__ else ""

    def _send(self) -> asyncio.Future[None]:
        """Send the request. Raises OSError."""
        output = Output()
        output.follow(self._pid)

        def done(answer: asyncio.Future[None]) -> None:
            os.close(output.writing)
            if not answer.cancelled():
                answer.exception()

        answer = self._request(output.writing)
        answer.add_done_callback(done)
        return answer
