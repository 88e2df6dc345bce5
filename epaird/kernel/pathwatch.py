"""Notification that a path may lead to another file, or that the file may have another text.

1. Every directory in which the kernel looks up a name on the way to the file is watched, for events of
   that name: also the directories on the way to the target of each symbolic link. The file itself is
   watched by its inode, which covers writes through other hard links and paths.
2. After an event the path may lead elsewhere, so the set of watches is computed again. It is computed until
   it is the same twice: what changes between looking a name up and watching its directory would be missed.
3. inotify reports neither mounts, nor stores into a mapped file, nor changes that another machine makes on a
   network file system; and its watches are limited. So a caller also looks at intervals.
"""

from __future__ import annotations

import enum
import errno
import stat
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from epaird.kernel import abi
from epaird.kernel.errors import KernelError
from epaird.kernel.inotify import FileEvent, Inotify

SYMLINKS_MAX: Final = 40
"""MAXSYMLINKS of linux/namei.h."""
_ATTEMPTS: Final = 8
"""Attempts to compute a set of watches that is the same twice; the directories may change all the time."""
_ENTRIES: Final = abi.IN_CREATE | abi.IN_DELETE | abi.IN_MOVED_FROM | abi.IN_MOVED_TO
_SELF: Final = abi.IN_ATTRIB | abi.IN_DELETE_SELF | abi.IN_MOVE_SELF
_DIRECTORY: Final = _ENTRIES | _SELF | abi.IN_ONLYDIR | abi.IN_DONT_FOLLOW
_FILE: Final = abi.IN_MODIFY | abi.IN_CLOSE_WRITE | _SELF | abi.IN_DONT_FOLLOW
_ROOT: Final = Path("/")
_LIMITS: Final = (errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class Seen(enum.Enum):
    """The meaning of the events since the last time."""

    NOTHING = enum.auto()
    """No event concerns the path."""
    WRITING = enum.auto()
    """The file was written, and the program that writes it has not closed it yet."""
    CHANGED = enum.auto()
    """The file was written and closed, or the path may lead to another file."""


class PathWatch:
    """A watch on one path, which need not exist."""

    def __init__(self, path: Path) -> None:
        """``path`` is absolute and leads to a file, or to a directory whose entries are of interest."""
        self._path = path
        self._watched: dict[int, set[str] | None] = {}
        """The names of interest in each watched directory; None for every event."""
        self.problem: KernelError | None = None
        """The limit that prevents some or all watches."""
        self._inotify: Inotify | None = None
        try:
            self._inotify = Inotify()
        except KernelError as error:
            self.problem = error
        self.renew()

    def fileno(self) -> int:
        """Return the file descriptor, which is readable after an event; -1 if there are no events."""
        return self._inotify.fileno() if self._inotify is not None else -1

    def close(self) -> None:
        """Stop watching. A second call does nothing."""
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    def read(self) -> Seen:
        """Read pending events, without waiting; return what they mean."""
        found = Seen.NOTHING
        for event in self.events():
            found = Seen.WRITING if event.mask & abi.IN_MODIFY else Seen.CHANGED
        return found

    def events(self) -> list[FileEvent]:
        """Read pending events that concern the path, without waiting."""
        pending = self._inotify.read() if self._inotify is not None else []
        return [event for event in pending if self._concerns(event)]

    def is_of_entry(self, event: FileEvent) -> bool:
        """Return whether an event is of an entry in the directory that the path leads to."""
        return bool(event.name) and self._watched.get(event.watch, set()) is None

    def renew(self) -> None:
        """Watch the files and directories that the path leads through now.

        It asks the file system, which may be slow."""
        if self._inotify is None:
            return
        every = set(self._watched)
        for _ in range(_ATTEMPTS):
            # Replaced in one step, because read() may be called in another thread.
            found = self._add(self._inotify)
            every |= found.keys()
            known, self._watched = self._watched, found
            if found == known:
                break
        for watch in every - self._watched.keys():
            self._inotify.remove(watch)

    def _add(self, inotify: Inotify) -> dict[int, set[str] | None]:
        watched: dict[int, set[str] | None] = {}
        problem: KernelError | None = None

        def add(path: Path, events: int, name: str | None) -> None:
            nonlocal problem
            try:
                watch = inotify.add(str(path), events)
            except KernelError as error:
                # A missing or forbidden directory is no limit: the event of a directory above, or the
                # caller's own look, reports the change.
                problem = error if error.errno in _LIMITS else problem
                return
            names = watched.setdefault(watch, set())
            if name is None:
                watched[watch] = None
            elif names is not None:
                names.add(name)

        target = _ROOT
        for directory, name in lookups(self._path):
            add(directory, _DIRECTORY, name)
            target = directory / name
        add(target, _DIRECTORY if _is_directory(target) else _FILE, None)
        self.problem = problem
        return watched

    def _concerns(self, event: FileEvent) -> bool:
        if event.mask & abi.IN_IGNORED:
            return False
        # A watch may be so new that it is not recorded yet.
        names = self._watched.get(event.watch)
        return not event.name or names is None or event.name in names


def lookups(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield each directory, without links in its path, and the name that the kernel looks up in it.

    They are those for an absolute path and for the target of each symbolic link on the way, in order, as far
    as they exist."""
    at, links, pending = _ROOT, 0, deque(path.parts[1:])
    while pending:
        name = pending.popleft()
        if name == "..":
            at = at.parent
            continue
        yield at, name
        here = at / name
        target = _target(here)
        if target is None:
            if pending and not _is_directory(here):
                return
            at = here
            continue
        links += 1
        if links > SYMLINKS_MAX:
            return
        if target.is_absolute():
            at = _ROOT
        pending.extendleft(reversed(target.parts[1:] if target.is_absolute() else target.parts))


def _target(path: Path) -> Path | None:
    """Return the target of a symbolic link; None for everything else."""
    try:
        return path.readlink()
    except OSError:
        return None


def _is_directory(path: Path) -> bool:
    """Return whether a path is a directory itself."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False
