"""Changes that clients requested.

Each is logged with the user who requested it. A client that disconnects does not stop its change; only the
daemon's end does.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import re
from collections.abc import Coroutine, Mapping
from typing import Any, Final, TypeVar

from starlette.requests import Request

from epaird.control.operations import Refused
from epaird.control.tasks import spawn
from epaird.names.grammar import quoted

log = logging.getLogger(__name__)

T = TypeVar("T")

_PLAIN: Final = re.compile(r"[\w.-]{1,64}", re.ASCII)
_SETTINGS_MAX: Final = 300
"""Characters of a request's settings that are logged."""


class Changes:
    """The changes that are under way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = False

    async def run(
        self, request: Request, what: str, change: Coroutine[Any, Any, T], name: str | None = None
    ) -> T:
        """Make a change and return its result. ``what`` describes it in the log, after the interface's name;
        without ``name`` that is the result.

        Raises what the change raises, and Refused with ESHUTDOWN if the daemon stops before it is done."""
        uid = request.state.connection.peer.uid
        if self._stopping:
            change.close()
            raise _stopping()
        task = spawn(change, what, awaited=True)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            result = await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._stopping and task.cancelled():
                raise _stopping() from None
            raise
        except Refused as refusal:
            log.debug("uid %d: not %s: %s: %s", uid, what, refusal.name, refusal)
            raise
        log.info("%s: %s, by uid %d", one_word(str(result) if name is None else name), what, uid)
        return result

    def refuse(self) -> None:
        """Refuse changes from now on."""
        self._stopping = True

    async def cancel(self) -> None:
        """Cancel the changes that are under way, and wait until they have ended."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def one_word(name: str) -> str:
    """Return a name from a client as one word of a log line."""
    return name if _PLAIN.fullmatch(name) else quoted(name)


def logged(settings: Mapping[str, object]) -> str:
    """Return settings from a client as a part of a log line: ``" mtu=9000 up=false"``."""
    text = ""
    for key, value in settings.items():
        text += f" {one_word(key)}={json.dumps(value)}"
        if len(text) > _SETTINGS_MAX:
            break
    return text if len(text) <= _SETTINGS_MAX else text[: _SETTINGS_MAX - 3] + "..."


def _stopping() -> Refused:
    return Refused(errno.ESHUTDOWN, "the daemon is stopping")
