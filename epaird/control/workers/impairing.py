"""Changes of the impairment of cables that a worker forwards."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

from epaird.control.workers.attachment import Attachment, WorkerLost
from epaird.control.workers.link import Link


class Impairing:
    """Changes the impairment of one worker's cables."""

    def __init__(self, attachments: dict[str, Attachment], holder: Callable[[str], Awaitable[Link]]) -> None:
        """``attachments`` are the worker's; ``holder`` returns the link to the process that has a cable, or
        raises WorkerLost."""
        self._attachments = attachments
        self._holder = holder

    async def apply(self, wanted: Attachment, port: int) -> None:
        """Apply the impairment of a port of an attached cable, which is as ``wanted`` from now on.

        A replacement is given it with the cable. Raises WorkerRefused when the process cannot."""
        cable = wanted.cable
        if cable not in self._attachments:
            return
        self._attachments[cable] = wanted
        with contextlib.suppress(WorkerLost):
            link = await self._holder(cable)
            line = wanted.spec.ports[port].line
            if not link.carries_lines:
                return  # it is of an older version, and renewed
            if any(each.draining for each in line):
                await link.impair(cable, port, (), ())
            else:
                await link.impair(cable, port, line, wanted.files[port] if line else ())

    def drained(self, cable: str, port: int) -> str:
        """Record that the line of a port holds nothing and was dropped.

        Return the name of the port, or an empty text if it is impaired again by now."""
        attachment = self._attachments.get(cable)
        if attachment is None or port >= len(attachment.spec.ports):
            return ""
        found = attachment.spec.ports[port]
        if not all(each.draining for each in found.line):
            return ""
        self._attachments[cable] = attachment.without_line(port)
        return found.name
