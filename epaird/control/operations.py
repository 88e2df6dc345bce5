"""What can be asked of the running daemon: the line between its front ends and the interfaces themselves."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from epaird.client.events import Event
from epaird.control.readings import InterfaceReading, Reading
from epaird.plan.actions import Action


class Refused(Exception):
    """A request that cannot be granted.  ``str()`` is one line for the person who asked."""

    def __init__(self, code: int, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.errno = code
        """As in BSD's manual pages: EEXIST, ENXIO, EINVAL, EPERM, EBUSY, ENOSPC, ENODEV, ..."""
        self.problems = tuple(problems)
        """Each thing that is wrong with the settings, with its key: ``epair.epair0.a.mtu: 1 is ...``."""

    @property
    def name(self) -> str:
        """The error's name, ``EEXIST``."""
        return errno.errorcode.get(self.errno, str(self.errno))


class Events(Protocol):
    """Events as they happen."""

    def __aiter__(self) -> AsyncIterator[Event]:
        """They can be iterated over, once."""

    async def aclose(self) -> None:
        """Read no more: the iteration ends, also one that waits in another task."""


class Operations(Protocol):
    """Everything a front end may do.  All but the reads raise :class:`Refused`."""

    async def create(self, name: str, settings: Mapping[str, object]) -> str:
        """Create ``epair``, ``epair7``, ``lo``, ``lo1``; the name made: ``epair7``.

        ``settings`` are the keys of the configuration's table for it."""

    async def destroy(self, name: str) -> None:
        """Destroy a pair by its name or either half's, or a loopback."""

    async def change(self, name: str, settings: Mapping[str, object]) -> None:
        """Change an interface in place: mtu, up, txqueuelen, carrier, coalesce, ..."""

    async def patch(self, name: str, peer: str, *, force: bool) -> None:
        """Plug a half into another one; each leaves its old peer."""

    async def unpatch(self, name: str) -> None:
        """Unplug a half: it and its peer have no carrier."""

    async def upgrade(self) -> None:
        """Execute the program as it is on disk now, which replaces the workers one by one; nothing is lost.

        Returns when that is certain to happen."""

    def cloners(self) -> tuple[str, ...]:
        """The kinds of interfaces that can be created."""

    def reading(self) -> Reading:
        """Everything as it is now."""

    def interface(self, name: str) -> tuple[InterfaceReading, ...]:
        """One interface, or both halves of a pair; raises Refused, ENXIO, when there is none."""

    def events(self) -> Events:
        """Events as they happen, from now on; one that is not read in time is lost, and counted."""


class Reloading(Protocol):
    """What a front end may do with the configuration as a whole.  All raise :class:`Refused`."""

    async def reload(self, *, dry_run: bool = False) -> tuple[Action, ...]:
        """Read the file again and have everything as it says; what was done, or would be."""

    async def plan(self, text: str, name: str) -> tuple[Action, ...]:
        """What a reload of a file with this text would do; messages call it ``name``."""

    def text(self) -> str:
        """The file that would make what there is."""
