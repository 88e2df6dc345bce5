"""Operations on the running daemon: the interface between its front ends and the rest."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from epaird.client.events import Event
from epaird.client.impairment import PairImpairment
from epaird.control.readings import InterfaceReading, MissingReading, ProcessReading, Reading
from epaird.plan.actions import Action


class Refused(Exception):
    """A request that cannot be granted. ``str()`` is one line for the user."""

    def __init__(self, code: int, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.errno = code
        """EEXIST, ENXIO, EINVAL, EPERM, EBUSY, ENOSPC, ENODEV, ..."""
        self.problems = tuple(problems)
        """Every error in the settings, with its key: ``epair.epair0.a.mtu: 1 is ...``."""

    @property
    def name(self) -> str:
        """Name of the error: ``EEXIST``."""
        return errno.errorcode.get(self.errno, str(self.errno))


class Events(Protocol):
    """Events as they happen."""

    def __aiter__(self) -> AsyncIterator[Event]:
        """Iterate over the events, once."""

    async def aclose(self) -> None:
        """End the iteration, even while another task waits in it."""


class Operations(Protocol):
    """Operations for a front end.

    All but cloners(), reading(), missing(), workers() and events() raise :class:`Refused`."""

    async def create(self, name: str, settings: Mapping[str, object]) -> str:
        """Create ``epair``, ``epair7``, ``lo`` or ``lo1``; return the name, ``epair7``.

        ``settings`` are the keys of the configuration's table for it."""

    async def destroy(self, name: str) -> None:
        """Destroy a pair by its name or either half's, or a loopback."""

    async def change(self, name: str, settings: Mapping[str, object]) -> None:
        """Change an interface in place: mtu, up, txqueuelen, carrier, coalesce, pmtu, ..."""

    async def patch(self, name: str, peer: str, *, force: bool) -> None:
        """Patch a half to another one; each is disconnected from its old peer."""

    async def unpatch(self, name: str) -> None:
        """Patch a half to none: it and its old peer have no carrier."""

    def impairment(self, name: str) -> PairImpairment:
        """Return the impairment of what a half transmits, or of both directions of a pair."""

    async def impair(
        self, name: str, keys: Mapping[str, object], *, whole: bool, seconds: float | None = None
    ) -> None:
        """Set keys of an impairment, whose value None removes them; all others too if ``whole``.

        After ``seconds`` the former impairment applies again."""

    def decisions(self, name: str, most: int) -> list[dict[str, object]]:
        """Return the last decisions about what a half transmits, at most so many."""

    async def replay(self, name: str, decisions: Sequence[tuple[int, int]]) -> None:
        """Repeat decisions about what a half transmits."""

    async def upgrade(self) -> None:
        """Execute the program as it is on disk now, which replaces the workers one by one; nothing is lost.

        Returns when the upgrade is certain to happen."""

    def cloners(self) -> tuple[str, ...]:
        """Return the kinds of interfaces that can be created."""

    def reading(self) -> Reading:
        """Return the present state of everything."""

    def workers(self) -> Sequence[ProcessReading]:
        """Return the worker processes as they are now."""

    def missing(self) -> tuple[MissingReading, ...]:
        """Return the interfaces of the configuration that do not exist; without those that were destroyed."""

    def interface(self, name: str) -> tuple[InterfaceReading, ...]:
        """Return one interface, or both halves of a pair; raises Refused, ENXIO, when none has this name."""

    def events(self) -> Events:
        """Return the events from now on; events that are not read in time are dropped, and counted."""


class Reloading(Protocol):
    """Operations on the configuration as a whole. All raise :class:`Refused`."""

    async def reload(self, *, dry_run: bool = False) -> tuple[Action, ...]:
        """Read the file again and apply it; return what was done, or would be done."""

    async def plan(self, text: str, name: str) -> tuple[Action, ...]:
        """Return what a reload of a file with this text would do; messages call it ``name``."""

    def text(self) -> str:
        """Return the running configuration as a file."""
