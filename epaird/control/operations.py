"""What can be asked of the running daemon: the line between its front ends and the interfaces themselves."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from epaird.control.readings import InterfaceReading, Reading


class Refused(Exception):
    """A request that cannot be granted.  ``str()`` is one line for the person who asked."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.errno = code
        """As in BSD's manual pages: EEXIST, ENXIO, EINVAL, EPERM, EBUSY, ENOSPC, ENODEV, ..."""

    @property
    def name(self) -> str:
        """The error's name, ``EEXIST``."""
        return errno.errorcode.get(self.errno, str(self.errno))


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an interface, or to a worker's queue."""

    time: float
    """Seconds since the epoch."""
    what: str
    """created, up, down, carrier, nocarrier, renamed, moved, unregistering, destroyed, overflow, drained,
    or lost: so many events did not reach a slow reader."""
    interface: str
    """The interface's own name, ``epair0a``; empty for a worker's queue and for lost."""
    detail: str = ""
    """More about it, for people: ``eth0 -> eth1``; for lost, the number."""


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

    def cloners(self) -> tuple[str, ...]:
        """The kinds of interfaces that can be created."""

    def reading(self) -> Reading:
        """Everything as it is now."""

    def interface(self, name: str) -> tuple[InterfaceReading, ...]:
        """One interface, or both halves of a pair; raises Refused, ENXIO, when there is none."""

    def events(self) -> AsyncIterator[Event]:
        """Events as they happen, from now on; one that is not read in time is lost, and counted."""
