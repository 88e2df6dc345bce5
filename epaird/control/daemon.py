"""The daemon: everything it needs, started in order, and taken down again in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys

import uvloop

from epaird.control.greeting import greeting
from epaird.control.host import Host
from epaird.control.namespaces import Namespaces
from epaird.control.pairs import Pairs
from epaird.control.readings import Reading
from epaird.control.tasks import spawn
from epaird.control.web import ListenError, MetricsServer
from epaird.control.workers import Worker, WorkerLost
from epaird.kernel.errors import KernelError
from epaird.kernel.requirements import missing
from epaird.ledger import Slots, Table
from epaird.settings import Configuration

log = logging.getLogger(__name__)

SLOTS = 1 << 16
"""Of the ledger: more than the interfaces a process can have descriptors for."""


def run(configuration: Configuration) -> int:
    """Run until SIGINT or SIGTERM; the exit status.  What is missing is said on stderr, a line each."""
    logging.basicConfig(level=configuration.daemon.log_level.upper(), format="%(message)s", stream=sys.stderr)
    lacking = missing(namespaces=_leaves_home(configuration))
    for line in lacking:
        log.error("%s", line)
    if lacking:
        return 1
    return uvloop.run(_run(configuration))


async def _run(configuration: Configuration) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with Daemon(configuration) as daemon:
        started = spawn(daemon.start(), "starting")
        stopped = spawn(stop.wait(), "waiting for a signal")
        await asyncio.wait((started, stopped), return_when=asyncio.FIRST_COMPLETED)
        try:
            if started.done():
                await started
                await stopped
        except (KernelError, ListenError, WorkerLost) as error:
            log.error("%s", error)
            return 1
        finally:
            for task in (started, stopped):
                task.cancel()
                await asyncio.wait((task,))
        log.info("stopping")
    return 0


class Daemon:
    """The control plane."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._table = Table.create(SLOTS)
        self._undo = contextlib.AsyncExitStack()
        self._host = Host()
        slots = Slots(self._table)
        self._workers = [self._worker(number, slots.take()) for number in range(_worker_count(configuration))]
        self._pairs = Pairs(self._host, self._table, slots, self._workers)

    async def __aenter__(self) -> Daemon:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._undo.aclose()

    async def start(self) -> None:
        """Make what the configuration says, and tell what was made.

        Raises KernelError, ListenError or WorkerLost; leaving the context takes down what there is."""
        configuration, undo = self._configuration, self._undo
        undo.callback(self._host.close)
        for worker in self._workers:
            undo.push_async_callback(worker.stop)
        await asyncio.gather(*(worker.start() for worker in self._workers))
        metrics = await self._serve_metrics()
        namespaces = Namespaces(self._host, configuration.daemon.control_socket.parent)
        undo.push_async_callback(namespaces.remove_all)
        await namespaces.create(configuration.namespaces.create)
        undo.push_async_callback(self._pairs.destroy_all)
        self._host.watch(self._pairs.happened)
        for name, settings in configuration.epair.items():
            await self._pairs.create(name, settings)
        for line in greeting(self._pairs, len(self._workers), metrics):
            log.info("%s", line)

    def reading(self) -> Reading:
        """Everything as it is now."""
        return Reading(self._pairs.readings(), tuple(worker.reading() for worker in self._workers))

    def _worker(self, number: int, slot: int) -> Worker:
        settings = self._configuration.daemon
        return Worker(
            number,
            self._table,
            slot,
            queue_limit=settings.queue_limit,
            poll_spin_us=getattr(settings, "poll_spin_us", 50),
            gone=lambda cable, device: self._pairs.gone(cable, device),
            lost=lambda worker: self._pairs.worker_lost(worker),
        )

    async def _serve_metrics(self) -> str | None:
        settings = self._configuration.metrics
        if settings.host is None or settings.port is None:
            return None
        server = MetricsServer.bind(settings.host, settings.port, self.reading)
        self._undo.push_async_callback(server.stop)
        await server.start()
        return server.url


def _worker_count(configuration: Configuration) -> int:
    workers = configuration.daemon.workers
    return len(os.sched_getaffinity(0)) if workers == "auto" else workers


def _leaves_home(configuration: Configuration) -> bool:
    return bool(configuration.namespaces.create) or any(half.namespace for half in configuration.halves)
