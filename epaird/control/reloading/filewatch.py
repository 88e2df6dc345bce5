"""The watch on the configuration file: it notices each change of the text at the path, once.

Only the text is compared, because a file can be replaced, linked, mounted or written. inotify reports when to
read it (:mod:`epaird.kernel.pathwatch`); because it does not report everything, the file is also read at
intervals.

A program may empty a file before it writes it, remove it before it puts another in its place, or write it in
several steps. So the file is read when there was no event for a moment, and its text must be the same twice.
A file that is empty or cannot be read changes nothing: it is logged once, and the watch goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from epaird.config.reading import InvalidConfiguration, content, digest, is_blank, quoted_path
from epaird.control.reloading.inforce import ConfigurationInForce
from epaird.control.tasks import in_thread, spawn
from epaird.kernel.pathwatch import PathWatch, Seen

log = logging.getLogger(__name__)

QUIET_S: Final = 0.1
"""Time without an event before the file is read, and between the two times that it is read."""
WRITING_S: Final = 0.5
"""The same where a program has written to the file and not closed it."""
CHECK_S: Final = 0.7
"""Interval at which the file is read without an event. It is below a second with QUIET_S added twice."""


@dataclass(frozen=True, slots=True)
class Look:
    """The file that the path leads to, at one moment."""

    sha256: str = ""
    """Digest of the text; empty if there is no text that can be applied."""
    problem: str = ""
    """Reason why it cannot, a line that begins with the path."""
    file: tuple[int, int] | None = field(default=None, compare=False)
    """Device and inode of the file; None if there is none."""


class FileWatch:
    """Watches one file, on the event loop."""

    def __init__(
        self, path: Path, known: Callable[[], str], changed: Callable[[str], Awaitable[None]]
    ) -> None:
        """``known`` returns the digest of the text that was read last. ``changed`` is awaited with the digest
        of each other one."""
        self._path = path
        self._known = known
        self._changed = changed
        self._event = asyncio.Event()
        self._led_elsewhere = False
        """True if the path may lead elsewhere since its directories were watched."""
        self._quiet_at = 0.0
        self._noted = ""
        self._file: tuple[int, int] | None = None
        """Device and inode of the file that was read last."""
        self._task = spawn(self._run(), f"watching {path}")

    async def stop(self) -> None:
        """Stop watching. A reload that is under way continues."""
        self._task.cancel()
        await asyncio.wait((self._task,))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        watch = await in_thread(PathWatch, self._path, unwanted=PathWatch.close)
        renewing = False
        try:
            if watch.fileno() >= 0:
                loop.add_reader(watch.fileno(), self._readable, watch)
            warned = False
            while True:
                if watch.problem is not None and not warned:
                    warned = True
                    log.warning(
                        "%s: %s: the file is only read every %g s", quoted_path(self._path), watch.problem,
                        CHECK_S,
                    )  # fmt: skip
                await self._quiet()
                before = self._file
                if sha256 := await self._look():
                    # A task of its own: a reload may end this watch, and must not be cancelled by that.
                    await asyncio.wait((spawn(self._apply(sha256), "applying the configuration file"),))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_S):
                        await self._event.wait()
                # Without an event the watches are still right, unless something was mounted on the path.
                if self._led_elsewhere or self._file != before or watch.problem is not None:
                    self._led_elsewhere = False
                    renewing = True
                    await in_thread(watch.renew, unwanted=lambda _: watch.close())
                    renewing = False
        finally:
            if watch.fileno() >= 0:
                loop.remove_reader(watch.fileno())
            if not renewing:
                watch.close()

    async def _quiet(self) -> None:
        """Wait until there was no event for a moment."""
        now = asyncio.get_running_loop().time
        while (pause := self._quiet_at - now()) > 0:
            self._event.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._event.wait()
        self._event.clear()

    def _readable(self, watch: PathWatch) -> None:
        seen = watch.read()
        if seen is not Seen.NOTHING:
            pause = WRITING_S if seen is Seen.WRITING else QUIET_S
            self._quiet_at = asyncio.get_running_loop().time() + pause
            self._led_elsewhere = True
            self._event.set()

    async def _look(self) -> str:
        """Return the digest of a text that is to be applied; empty if there is none."""
        found = await in_thread(look, self._path)
        self._file = found.file
        if found.problem:
            if found.problem == self._noted:
                return ""
        elif found.sha256 == self._known():
            if self._noted:
                log.info("%s: has the same text as before again", quoted_path(self._path))
                self._noted = ""
            return ""
        await asyncio.sleep(QUIET_S)
        if await in_thread(look, self._path) != found or self._event.is_set():
            self._event.set()  # look again: it is being changed
            return ""
        self._noted = found.problem
        if found.problem:
            log.warning("%s: the configuration in force stays, the watch goes on", found.problem)
        return found.sha256

    async def _apply(self, sha256: str) -> None:
        await self._changed(sha256)


class ConfiguredWatch:
    """The watch on the file of the configuration in force, while ``watch`` is configured."""

    def __init__(self, in_force: ConfigurationInForce, changed: Callable[[str], Awaitable[None]]) -> None:
        """``changed`` is awaited with the digest of each text that was not read before."""
        self._in_force = in_force
        self._changed = changed
        self._watch: FileWatch | None = None

    @property
    def active(self) -> bool:
        """True while the file is watched."""
        return self._watch is not None

    async def update(self) -> None:
        """Begin or end the watch as it is configured now."""
        await self.stop()
        in_force = self._in_force
        if in_force.daemon.watch and in_force.path is not None:
            self._watch = FileWatch(in_force.path, lambda: in_force.digest, self._changed)

    async def stop(self) -> None:
        """End the watch. A reload that is under way continues."""
        watch, self._watch = self._watch, None
        if watch is not None:
            await watch.stop()


def look(path: Path) -> Look:
    """Read a file once."""
    file = _identity(path)
    try:
        text = content(path)
    except InvalidConfiguration as error:
        return Look(problem="; ".join(error.problems), file=file)
    if is_blank(text):
        return Look(problem=f"{quoted_path(path)}: is empty", file=file)
    return Look(digest(text), file=file)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
