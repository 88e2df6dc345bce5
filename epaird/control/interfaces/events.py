"""Events, to as many readers as there are.

Telling never waits: each reader has room for some events, and who does not read in time loses the oldest
and is told how many.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Final

from epaird.client.events import Event

ROOM: Final = 1024
"""Events that a reader may be behind."""


class Reader:
    """One reader's events, from the moment it was made.  An asynchronous iterator without an end, until it
    is closed."""

    def __init__(self, room: int, now: Callable[[], float]) -> None:
        self._events: deque[Event] = deque(maxlen=room)
        self._now = now
        self._lost = 0
        self._wake = asyncio.Event()
        self._closed = False

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        if self._lost:
            lost, self._lost = self._lost, 0
            return Event(self._now(), "lost", "", str(lost))
        return self._events.popleft()

    async def aclose(self) -> None:
        """Read no more: what is left can still be taken, then the iterator ends."""
        self._closed = True
        self._wake.set()

    def put(self, event: Event) -> None:
        """Keep an event for the reader."""
        if not self._closed:
            self._lost += len(self._events) == self._events.maxlen
            self._events.append(event)
            self._wake.set()


def _nothing() -> None:
    """Nobody wants to know."""


class Bus:
    """Where events are told."""

    def __init__(self, room: int = ROOM, now: Callable[[], float] = time.time) -> None:
        """``room`` is how many events a reader may be behind."""
        self._room = room
        self._now = now
        self._readers: weakref.WeakSet[Reader] = weakref.WeakSet()
        self.changed: Callable[[], None] = _nothing
        """Called when something has been told, and by who has changed what is nothing to be told."""

    def tell(self, what: str, interface: str = "", detail: str = "") -> None:
        """Something happened; see :class:`Event` for the words."""
        event = Event(self._now(), what, interface, detail)
        for reader in tuple(self._readers):
            reader.put(event)
        self.changed()

    def read(self) -> Reader:
        """A new reader, which is forgotten with its last reference."""
        reader = Reader(self._room, self._now)
        self._readers.add(reader)
        return reader
