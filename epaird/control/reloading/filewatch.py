"""A file that is watched with inotify on its directory: editors and deployments replace files."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from epaird.kernel import abi
from epaird.kernel.directorywatch import DirectoryWatch
from epaird.kernel.errors import KernelError

log = logging.getLogger(__name__)

QUIET_S: Final = 0.1
"""Time without an event before the file is read: some programs write in several steps."""


class FileWatch:
    """Watches one file."""

    def __init__(self, path: Path, changed: Callable[[], None]) -> None:
        """``changed`` is called after any event in the file's directory.

        The target of a symbolic link is watched as well. Raises KernelError."""
        self._path = path
        self._changed = changed
        self._due: asyncio.TimerHandle | None = None
        self._begin()

    def close(self) -> None:
        """Stop watching."""
        if self._due is not None:
            self._due.cancel()
        asyncio.get_running_loop().remove_reader(self._watch.fileno())
        self._watch.close()

    def _begin(self) -> None:
        self._directories = _directories(self._path)
        events = abi.IN_CLOSE_WRITE | abi.IN_MOVED_TO
        self._watch = DirectoryWatch(*self._directories, events=events, label=str(self._path))
        asyncio.get_running_loop().add_reader(self._watch.fileno(), self._readable)

    def _readable(self) -> None:
        self._watch.drain()
        if self._due is not None:
            self._due.cancel()
        self._due = asyncio.get_running_loop().call_later(QUIET_S, self._quiet)

    def _quiet(self) -> None:
        self._due = None
        if _directories(self._path) != self._directories:
            self.close()
            try:
                self._begin()
            except KernelError as error:
                log.warning("%s: %s", self._path, error)
        self._changed()


def _directories(path: Path) -> tuple[str, ...]:
    """Return the directories of the file and of its target."""
    return tuple(dict.fromkeys((str(path.parent), str(path.resolve().parent))))
