"""The processes that may read each queue: at any time one living process at most.

Two processes that read one queue reorder its frames, and both count in its slot of the ledger. A process may
read a queue from the moment when it is requested to attach its cable until it has answered the request to
detach it, or has ended. "Ended" is when the process has, not when its connection has been closed: a process
that closes the connection can still read.

All ways by which a process comes to read a queue lead through one :class:`Readers`: the adoption of an
orphan, the hand-over of its cables, the replacement of a process that died, the renewal of a worker, and
moves between workers. A request that would make a process the second reader of a queue is sent when the first
one no longer reads it.

A queue is identified by its slot of the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Claim:
    reader: object
    slots: frozenset[int]
    granted: Callable[[], None]


class Readers:
    """Readers of queues and those who wait to become one."""

    def __init__(self) -> None:
        self._readers: dict[int, list[object]] = {}
        """By slot. There are two only if an earlier version has left two."""
        self._claims: list[_Claim] = []
        """Claims that are not granted, in order."""

    def record(self, reader: object, slots: Collection[int]) -> None:
        """Record that a process reads queues already: a predecessor gave them to it."""
        for slot in slots:
            readers = self._readers.setdefault(slot, [])
            if reader not in readers:
                readers.append(reader)

    def claim(self, reader: object, slots: Collection[int], granted: Callable[[], None]) -> None:
        """Make a process the reader of queues once no other one is, and call ``granted`` then."""
        claim = _Claim(reader, frozenset(slots), granted)
        if self._is_free(claim, self._claims):
            self._grant(claim)
        else:
            self._claims.append(claim)

    def release(self, reader: object, slots: Collection[int]) -> None:
        """Record that a process does not read queues any more, and does not claim them."""
        self._claims = [
            each for each in self._claims if each.reader is not reader or not each.slots & set(slots)
        ]
        for slot in slots:
            self._forget(reader, slot)
        self._grant_next()

    def release_all(self, reader: object) -> None:
        """Record that a process has ended."""
        self._claims = [each for each in self._claims if each.reader is not reader]
        for slot in [slot for slot, readers in self._readers.items() if reader in readers]:
            self._forget(reader, slot)
        self._grant_next()

    def of(self, slot: int) -> tuple[object, ...]:
        """Return the processes that may read a queue."""
        return tuple(self._readers.get(slot, ()))

    def _forget(self, reader: object, slot: int) -> None:
        readers = [each for each in self._readers.pop(slot, ()) if each is not reader]
        if readers:
            self._readers[slot] = readers

    def _is_free(self, claim: _Claim, before: Collection[_Claim]) -> bool:
        """Return whether a claim can be granted: no other process reads, or claimed earlier."""
        readers = (each for slot in claim.slots for each in self.of(slot))
        return all(each is claim.reader for each in readers) and not any(
            each.slots & claim.slots for each in before
        )

    def _grant(self, claim: _Claim) -> None:
        self.record(claim.reader, claim.slots)
        claim.granted()

    def _grant_next(self) -> None:
        """Grant every claim that can be, in order."""
        while True:
            for number, claim in enumerate(self._claims):
                if self._is_free(claim, self._claims[:number]):
                    del self._claims[number]
                    self._grant(claim)
                    break
            else:
                return
