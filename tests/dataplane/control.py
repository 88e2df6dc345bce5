"""A worker on a real loop, given socketpairs for devices, and its control plane."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from epaird.dataplane.worker import WorkerLoop
from epaird.ipc import counters, ledger
from epaird.ipc.ledger import Table
from epaird.ipc.messages import (
    Attach,
    CableSpec,
    Continue,
    Detach,
    Done,
    Keep,
    Message,
    Pause,
    PortSpec,
    Resize,
    Start,
)
from tests.dataplane.conftest import Owner, frame
from tests.waiting import eventually

MTUS = (1500, 1500)


class Control:
    """A worker, and its control plane: requests, and the messages that were received."""

    def __init__(self, queue_limit: int, poll_spin_us: int) -> None:
        self.table = Table.create(16)
        self.received: list[Message] = []
        start = Start(worker=0, slot=0, queue_limit=queue_limit, poll_spin_us=poll_spin_us)
        self.worker = WorkerLoop(start, self.table, self.received.append)
        self.owners: dict[str, Owner] = {}
        self._requests = 0
        self._slots = 0

    def attach(
        self,
        cable: str = "epair0",
        mtus: tuple[int, int] = MTUS,
        *,
        offloads: tuple[bool, bool] = (True, True),
    ) -> int:
        """Attach a new cable; return the id of the request."""
        names = (f"{cable}a", f"{cable}b")
        for name in names:
            if name not in self.owners:
                self.owners[name] = Owner()
        fds = [os.dup(self.owners[name].device.fileno()) for name in names]
        slots = (self._slots + 1, self._slots + 2)
        self._slots += 2
        ports = tuple(PortSpec(*port) for port in zip(names, slots, mtus, offloads, strict=True))
        request = Attach(self._next(), CableSpec(cable, ports))
        self.worker.handle(request, fds)
        return request.id

    def detach(self, cable: str = "epair0", patience: float = 3600) -> int:
        request = Detach(self._next(), cable, patience)
        self.worker.handle(request, [])
        return request.id

    def keep(self, cable: str = "epair0", patience: float = 3600) -> int:
        request = Keep(self._next(), cable, patience)
        self.worker.handle(request, [])
        return request.id

    def pause(self, cable: str = "epair0", seconds: float = 3600) -> int:
        request = Pause(self._next(), cable, seconds)
        self.worker.handle(request, [])
        return request.id

    def proceed(self, cable: str = "epair0") -> int:
        request = Continue(self._next(), cable)
        self.worker.handle(request, [])
        return request.id

    def reported(self) -> dict[str, str]:
        """Return the cables that the worker would report to another control plane, and their kinds."""
        return {about.cable.name: about.cable.kind for about, _ in self.worker.attached()}

    def resize(self, mtus: tuple[int, int], cable: str = "epair0") -> int:
        request = Resize(self._next(), cable, mtus)
        self.worker.handle(request, [])
        return request.id

    def words(self, slot: int) -> ledger.Words:
        return self.table.slot(slot)

    async def answered(self, request: int, error: str = "", number: int = 0) -> None:
        await eventually(lambda: Done(request, error, number) in self.received)

    async def fill(self, name: str = "epair0a") -> None:
        """Send until frames wait in the queue."""
        while not self.words(0)[counters.QUEUE_FRAMES]:
            with suppress(BlockingIOError):
                self.owners[name].sends(frame())
            await asyncio.sleep(0)

    def _next(self) -> int:
        self._requests += 1
        return self._requests


@asynccontextmanager
async def worker(queue_limit: int = 2100, poll_spin_us: int = 0) -> AsyncIterator[Control]:
    control = Control(queue_limit, poll_spin_us)
    try:
        yield control
    finally:
        for cable in (*control.worker._cables, *control.worker._kept):
            await control.answered(control.detach(cable, patience=0))
        for owner in control.owners.values():
            owner.close()
        os.close(control.table.fd)


async def receives(owner: Owner, count: int) -> list[bytes]:
    """Return ``count`` frames or more, once they have arrived."""
    received: list[bytes] = []

    def complete() -> bool:
        received.extend(owner.receives())
        return len(received) >= count

    await eventually(complete)
    return received
