"""The control plane without its front ends: a real host and real workers in a laboratory's home."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import pytest
import uvloop

from epaird.client.events import Event
from epaird.config.settings import LoopbackSettings
from epaird.control.interfaces.frontend import FrontEnd
from epaird.control.interfaces.registry import Registry
from epaird.control.machine.host import Host
from epaird.control.operations import Refused
from epaird.control.readings import InterfaceReading
from epaird.control.tasks import together
from epaird.control.workers.worker import Worker
from epaird.ipc.ledger import Table
from epaird.ipc.slots import Slots
from epaird.names import mac
from epaird.names.macpool import MacPool
from tests.loop import descriptors
from tests.scenarios.lab import Lab
from tests.waiting import DEADLINE_S, eventually

T = TypeVar("T")
P = ParamSpec("P")


def on_loop_in_lab(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test on uvloop, in its laboratory's home namespace."""

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
class ControlPlane:
    """A running control plane and its workers."""

    lab: Lab
    host: Host
    table: Table
    workers: list[Worker]
    interfaces: FrontEnd
    registry: Registry

    def reading(self, device: str) -> InterfaceReading:
        """Return the reading of an interface."""
        (found,) = self.interfaces.interface(device)
        return found

    def has(self, device: str, **wanted: object) -> bool:
        """Return whether an interface's reading has these fields; False while it changes its namespace."""
        found = self.interfaces.interface(device)
        return bool(found) and all(getattr(found[0], key) == value for key, value in wanted.items())

    def worker_pid(self) -> int:
        """Return the pid of the first worker."""
        pid = self.workers[0].pid
        assert pid is not None
        return pid

    async def kill_worker(self) -> None:
        """Kill the first worker and wait until its successor forwards."""
        worker = self.workers[0]
        os.kill(self.worker_pid(), signal.SIGKILL)
        await eventually(lambda: worker.restarts == 1 and worker.forwards)

    async def at_rest(self, *devices: str) -> None:
        """Wait until these interfaces have no frame in flight."""
        await eventually(lambda: all(self.reading(device).refs == 1 for device in devices))

    def inventory(self) -> dict[str, object]:
        """Return the devices, interfaces and attachments that exist."""
        return {
            "devices": sorted(self.lab.home.links("tun")),
            "interfaces": [each.device for each in self.interfaces.reading().interfaces],
            "attachments": [name for worker in self.workers for name in worker.attachments],
        }


def pair_settings(lab: Lab, *, ipv6: bool = True, **both: object) -> dict[str, dict[str, object]]:
    """Return the settings of a pair that connects red and blue; ``both`` is for both halves."""
    return {
        half: {
            "netns": lab[netns].name,
            "name": "eth0",
            "addresses": [f"10.0.0.{number}/24"] + [f"fd00::{number}/64"] * ipv6,
            **both,
        }
        for number, (half, netns) in enumerate((("a", "red"), ("b", "blue")), 1)
    }


@contextlib.asynccontextmanager
async def control_plane(
    lab: Lab, *, workers: int = 1, loopbacks: bool = True, queue_limit: int = 2100
) -> AsyncIterator[ControlPlane]:
    """Start a control plane; at the end destroy its interfaces and check that nothing is left."""
    before, tasks = descriptors(), asyncio.all_tasks()
    table = Table.create(4096)
    host = Host()
    slots = Slots(table)
    made: list[Registry] = []

    async def died(worker: Worker) -> None:
        await made[0].worker_lost(worker)

    pool = [
        Worker(
            number, table, slots.take(), queue_limit=queue_limit, poll_spin_us=0,
            device_gone=lambda _cable, device: made[0].device_gone(device), died=died,
            notify=lambda worker, report: made[0].worker_reported(worker, report),
        )
        for number in range(workers)
    ]  # fmt: skip
    registry = Registry(host, table, slots, pool, MacPool(mac.host_id()), loopbacks=loopbacks)
    made.append(registry)
    try:
        await together(*(worker.start() for worker in pool))
        host.watch(registry.link_event)
        if loopbacks:
            await registry.create("lo0", LoopbackSettings())
        found = ControlPlane(lab, host, table, pool, FrontEnd(registry), registry)
        yield found
        await registry.destroy_all()
        assert found.inventory() == {"devices": [], "interfaces": [], "attachments": []}
    finally:
        await registry.destroy_all()
        await together(*(worker.stop() for worker in pool))
        host.close()
        os.close(table.fd)
    await eventually(lambda: asyncio.all_tasks() <= tasks)
    left = [file for fd, file in descriptors().items() if before.get(fd) != file and "tun" in file]
    assert not left


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking function in a thread."""
    return await asyncio.to_thread(function, *args, **kwargs)


async def refused(request: Awaitable[object]) -> tuple[str, str]:
    """Return the name and message of the error that refuses a request."""
    with pytest.raises(Refused) as refusal:
        await request
    assert "\n" not in str(refusal.value)
    return refusal.value.name, str(refusal.value)


async def wait_for_events(events: AsyncIterator[Event], *wanted: tuple[str, str]) -> list[Event]:
    """Read events until these, each an event and an interface, have come in this order.

    Returns all events read.
    """
    seen = []
    async with asyncio.timeout(DEADLINE_S):
        for what, interface in wanted:
            while True:
                seen.append(event := await anext(events))
                if (event.what, event.interface) == (what, interface):
                    break
    return seen
