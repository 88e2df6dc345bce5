"""The daemon's interfaces without its front ends: a real machine, real workers, in a laboratory's home."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import pytest
import uvloop

from epaird.client.events import Event
from epaird.config.settings import LoopbackSettings
from epaird.control.interfaces.registry import Interfaces
from epaird.control.machine.host import Host
from epaird.control.operations import Refused
from epaird.control.readings import InterfaceReading
from epaird.control.tasks import together
from epaird.control.workers.worker import Worker
from epaird.ipc.ledger import Slots, Table
from epaird.names import mac
from epaird.names.macpool import MacPool
from tests.loop import descriptors
from tests.scenarios.lab import Lab
from tests.waiting import DEADLINE_S, eventually

T = TypeVar("T")


P = ParamSpec("P")


def living(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test on a loop of the daemon's kind, in its laboratory's home."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        lab = next(each for each in (*args, *kwargs.values()) if isinstance(each, Lab))

        async def within_time() -> None:
            async with asyncio.timeout(2 * DEADLINE_S):
                await test(*args, **kwargs)

        with lab.home.inside():
            uvloop.run(within_time())

    return run


@dataclass(slots=True)
class Life:
    """Everything there is."""

    lab: Lab
    host: Host
    table: Table
    workers: list[Worker]
    interfaces: Interfaces

    def one(self, device: str) -> InterfaceReading:
        """One interface's reading."""
        (found,) = self.interfaces.interface(device)
        return found

    def is_(self, device: str, **wanted: object) -> bool:
        """Whether these fields of an interface's reading are so; not while it is on its way elsewhere."""
        found = self.interfaces.interface(device)
        return bool(found) and all(getattr(found[0], key) == value for key, value in wanted.items())

    async def at_rest(self, *devices: str) -> None:
        """Wait until every frame has met its fate at these interfaces."""
        await eventually(lambda: all(self.one(device).refs == 1 for device in devices))

    def left(self) -> dict[str, object]:
        """What there is of interfaces."""
        return {
            "devices": sorted(self.lab.home.links("tun")),
            "interfaces": [each.device for each in self.interfaces.reading().interfaces],
            "attachments": [name for worker in self.workers for name in worker.attachments],
        }


@contextlib.asynccontextmanager
async def life(
    lab: Lab, *, workers: int = 1, loopbacks: bool = True, queue_limit: int = 2100
) -> AsyncIterator[Life]:
    """Begin, and end so that nothing is left."""
    before, tasks = descriptors(), asyncio.all_tasks()
    table = Table.create(4096)
    host = Host()
    slots = Slots(table)
    made: list[Interfaces] = []

    async def lost(worker: Worker) -> None:
        await made[0].worker_lost(worker)

    those = [
        Worker(
            number, table, slots.take(), queue_limit=queue_limit, poll_spin_us=0,
            gone=lambda _cable, device: made[0].gone(device), lost=lost,
            told=lambda worker, news: made[0].told(worker, news),
        )
        for number in range(workers)
    ]  # fmt: skip
    interfaces = Interfaces(host, table, slots, those, MacPool(mac.host_id()), loopbacks=loopbacks)
    made.append(interfaces)
    try:
        await together(*(worker.start() for worker in those))
        host.watch(interfaces.happened)
        if loopbacks:
            await interfaces.create_loopback("lo0", LoopbackSettings())
        found = Life(lab, host, table, those, interfaces)
        yield found
        await interfaces.destroy_all()
        assert found.left() == {"devices": [], "interfaces": [], "attachments": []}
    finally:
        await interfaces.destroy_all()
        await together(*(worker.stop() for worker in those))
        host.close()
        os.close(table.fd)
    await eventually(lambda: asyncio.all_tasks() <= tasks)
    left = [file for fd, file in descriptors().items() if before.get(fd) != file and "tun" in file]
    assert not left


async def beside(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What blocks, in a thread beside the loop."""
    return await asyncio.to_thread(function, *args, **kwargs)


async def refused(request: Awaitable[object]) -> tuple[str, str]:
    """The error's name, and the line that comes with it."""
    with pytest.raises(Refused) as refusal:
        await request
    assert "\n" not in str(refusal.value)
    return refusal.value.name, str(refusal.value)


async def happens(events: AsyncIterator[Event], *wanted: tuple[str, str]) -> list[Event]:
    """Read events until each of these, what and whose, has been among them, in this order."""
    seen = []
    async with asyncio.timeout(DEADLINE_S):
        for what, interface in wanted:
            while True:
                seen.append(event := await anext(events))
                if (event.what, event.interface) == (what, interface):
                    break
    return seen
