"""Events, delivered to any number of readers.

Publishing never waits: each reader has room for a limited number of events. A reader that is slower loses
the oldest ones and receives an event with their number.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Final

from epaird.client.events import Event

CAPACITY: Final = 1024
"""Most events that wait for one reader."""


class EventReader:
    """The events of one reader, from its creation on.

    An asynchronous iterator that ends only when it is closed."""

    def __init__(self, capacity: int, now: Callable[[], float]) -> None:
        self._events: deque[Event] = deque(maxlen=capacity)
        self._now = now
        self._lost = 0
        self._wake = asyncio.Event()
        self._closed = False

    def __aiter__(self) -> EventReader:
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
        """Accept no more events. Those that wait can still be read, then the iterator ends."""
        self._closed = True
        self._wake.set()

    def put(self, event: Event) -> None:
        """Add an event; drop the oldest one when there is no room."""
        if not self._closed:
            self._lost += len(self._events) == self._events.maxlen
            self._events.append(event)
            self._wake.set()


def _ignore() -> None:
    """Do nothing."""


class EventBus:
    """Delivers published events to all readers."""

    def __init__(self, capacity: int = CAPACITY, now: Callable[[], float] = time.time) -> None:
        """``capacity`` is the number of events that may wait for one reader."""
        self._capacity = capacity
        self._now = now
        self._readers: weakref.WeakSet[EventReader] = weakref.WeakSet()
        self.on_change: Callable[[], None] = _ignore
        """Called after each change."""
        self.changes = 0
        """Number of changes so far."""

    def publish(self, what: str, interface: str = "", detail: str = "") -> None:
        """Deliver an event to every reader; :class:`Event` lists the values of ``what``."""
        event = Event(self._now(), what, interface, detail)
        for reader in tuple(self._readers):
            reader.put(event)
        self.changed()

    def changed(self) -> None:
        """Count a change: an event that was published, or a change that has no event."""
        self.changes += 1
        self.on_change()

    def read(self) -> EventReader:
        """Return a new reader. It is removed when nothing refers to it any more."""
        reader = EventReader(self._capacity, self._now)
        self._readers.add(reader)
        return reader
