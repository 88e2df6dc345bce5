"""A registry and its front end, on a machine without a kernel."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from epaird.config.settings import LoopbackSettings
from epaird.control.interfaces.frontend import FrontEnd
from epaird.control.interfaces.registry import Registry
from epaird.control.operations import Refused
from epaird.control.readings import InterfaceReading
from epaird.control.workers.worker import Worker
from epaird.ipc.ledger import Table
from epaird.ipc.slots import Slots
from epaird.names.macpool import MacPool
from tests.control.fake import FakeHost
from tests.control.stage import IdleWorker

HOST_ID = 1


@dataclass(slots=True)
class Scene:
    """Interfaces, the machine and a worker."""

    host: FakeHost
    worker: Worker
    interfaces: FrontEnd
    registry: Registry
    table: Table
    slots: Slots

    def one(self, device: str) -> InterfaceReading:
        """Return the reading of an interface."""
        (found,) = self.interfaces.interface(device)
        return found

    def devices(self) -> list[str]:
        """Return the names of the devices that exist."""
        return sorted(self.host.links)


@asynccontextmanager
async def make_scene(*, real: bool = False, queue_limit: int = 2100) -> AsyncIterator[Scene]:
    """Provide interfaces with lo0; ``real`` gives the worker a process. Nothing may be left at the end."""
    host, table = FakeHost(), Table.create(64)
    slots = Slots(table)
    made: list[Registry] = []

    async def lost(worker: Worker) -> None:
        await made[0].worker_lost(worker)

    def gone(_cable: str, device: str) -> None:
        made[0].device_gone(device)

    worker: Worker
    if real:
        worker = Worker(
            0, table, slots.take(), queue_limit=queue_limit, poll_spin_us=0, device_gone=gone, died=lost,
            notify=lambda worker, report: made[0].worker_reported(worker, report),
        )  # fmt: skip
        await worker.start()
    else:
        worker = IdleWorker(0, table, slots.take(), device_gone=gone, died=lost)
    registry = Registry(host, table, slots, [worker], MacPool(HOST_ID), loopbacks=True)
    made.append(registry)
    host.watch(registry.link_event)
    try:
        await registry.create("lo0", LoopbackSettings())
        yield Scene(host, worker, FrontEnd(registry), registry, table, slots)
        await registry.destroy_all()
        assert not host.links
        assert not worker.attachments
    finally:
        if isinstance(worker, IdleWorker):
            worker.detaching.set()
        await registry.destroy_all()
        await worker.stop()
        host.close()
        os.close(table.fd)


async def refused(request: Awaitable[object]) -> str:
    """Return the error's name of a request that is refused."""
    with pytest.raises(Refused) as refusal:
        await request
    return refusal.value.name
