"""The allocation of the ledger's slots.

This module is imported by worker processes: it uses the standard library only.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection

from epaird.ipc.ledger import Table


class LedgerFull(Exception):
    """Every slot of the ledger is in use. ``str()`` is one line."""


class Slots:
    """Allocates the slots of a table; the lowest free one is handed out first, zeroed."""

    def __init__(self, table: Table, taken: Collection[int] = (), *, resting: bool = False) -> None:
        """``taken`` are the slots in use already. With ``resting``, a slot that is released can be taken
        again only after :meth:`rested`."""
        self._table = table
        self._resting: list[int] | None = [] if resting else None
        self._free = [slot for slot in range(table.slots) if slot not in taken]

    def take(self) -> int:
        """Return a free slot; raises LedgerFull when there is none."""
        if not self._free:
            raise LedgerFull(
                f"the ledger is full: there can be {self._table.slots} queues of interfaces and workers"
            )
        slot = heapq.heappop(self._free)
        self._table.clear(slot)
        return slot

    def release(self, slot: int) -> None:
        """Free a slot that nothing writes to any more."""
        if self._resting is None:
            heapq.heappush(self._free, slot)
        else:
            self._resting.append(slot)

    def rested(self) -> None:
        """Allow slots that were released before to be taken again."""
        for slot in self._resting or ():
            heapq.heappush(self._free, slot)
        if self._resting:
            self._resting.clear()
