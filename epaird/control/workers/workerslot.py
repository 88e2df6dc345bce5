"""A worker's slot of the ledger, as the control plane reads it."""

from __future__ import annotations

import time
from typing import Final

from epaird.control.readings import WorkerReading
from epaird.ipc.counters import CPU_NS, DRAIN_LIST, HEARTBEAT_NS, QUEUE_FRAMES, WORKER_OACTIVE
from epaird.ipc.ledger import Table

ALIVE_S: Final = 1.0
"""Seconds without a heartbeat, over twice its interval, after which a worker is reported as not alive."""


class WorkerSlot:
    """The slot in which a worker's process counts. It is another one after each renewal."""

    def __init__(self, table: Table, number: int) -> None:
        self.number = number
        """Number of the slot in the ledger."""
        self._table = table
        self._words = table.worker_slot(number)
        self._cpu_ns = 0

    def prepare(self, number: int) -> None:
        """Have the processor time in slot ``number`` continue that of this one."""
        self._table.worker_slot(number)[CPU_NS] = self._words[CPU_NS]

    def move(self, number: int) -> None:
        """Read slot ``number`` from now on."""
        self.number, self._words = number, self._table.worker_slot(number)

    def reading(self, worker: int, *, queue_limit: int, restarts: int) -> WorkerReading:
        """Return the present state of the process of worker number ``worker``.

        ``queue_limit``, in frames, and ``restarts`` are not in the ledger."""
        words = self._words
        # A process that is renewed still uses processor time after it was read for the new slot.
        self._cpu_ns = max(self._cpu_ns, words[CPU_NS])
        return WorkerReading(
            worker=str(worker),
            queue_frames=words[QUEUE_FRAMES],
            queue_limit=queue_limit,
            drain_list=words[DRAIN_LIST],
            oactive=bool(words[WORKER_OACTIVE]),
            restarts=restarts,
            cpu_seconds=self._cpu_ns / 1e9,
            alive=time.monotonic_ns() - words[HEARTBEAT_NS] < ALIVE_S * 1e9,
        )

    @property
    def activity(self) -> tuple[int, ...]:
        """Time of the last heartbeat, in nanoseconds of CLOCK_MONOTONIC, followed by other words of the
        ledger that change only when the process does something."""
        words = self._words
        return words[HEARTBEAT_NS], words[QUEUE_FRAMES], words[DRAIN_LIST]
