"""Changes that clients asked for: each is logged with who did, and none is left half done by its client.

A client that goes away does not stop its change; only the daemon's end does.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar

from epaird.control.api.credentials import Peer
from epaird.control.operations import Refused
from epaird.control.tasks import spawn
from epaird.names.grammar import quoted

log = logging.getLogger(__name__)

T = TypeVar("T")

_PLAIN: Final = re.compile(r"[\w.-]{1,64}", re.ASCII)
_SHOWN: Final = 300
"""Characters of a request's settings that the log repeats."""


class Changes:
    """The changes under way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = False

    async def run(self, peer: Peer, what: str, change: Coroutine[Any, Any, T], name: Callable[[T], str]) -> T:
        """Make a change.  ``what`` is how the log tells it, of the interface ``name`` finds in its result.

        Raises what the change raises, and Refused, ESHUTDOWN, when the daemon stops before its end."""
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
            log.debug("uid %d: not %s: %s: %s", peer.uid, what, refusal.name, refusal)
            raise
        log.info("%s: %s, by uid %d", plain(name(result)), what, peer.uid)
        return result

    def refuse(self) -> None:
        """From now on, begin no more."""
        self._stopping = True

    async def cancel(self) -> None:
        """End those that still are under way, and wait until they have ended."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def plain(name: str) -> str:
    """A name that a client said, as one word of a line of the log."""
    return name if _PLAIN.fullmatch(name) else quoted(name)


def listed(settings: Mapping[str, object]) -> str:
    """Settings that a client said, as part of a line of the log: ``" mtu=9000 up=false"``."""
    try:
        words = [f" {plain(key)}={json.dumps(value)}" for key, value in settings.items()]
    except RecursionError:
        return " ..."
    text = "".join(words)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _stopping() -> Refused:
    return Refused(errno.ESHUTDOWN, "the daemon is stopping")
