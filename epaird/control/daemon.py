"""The control plane: everything it needs, started in order, and taken down again in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path

from epaird import __version__
from epaird.config.settings import Configuration
from epaird.control import logs
from epaird.control.api.server import ControlServer
from epaird.control.greeting import greeting, summary
from epaird.control.handover import reexec
from epaird.control.handover.handover import LOCK, Handover
from epaird.control.handover.ledgers import open_ledger
from epaird.control.handover.notify import Health, Inherited, Notifier, listener, take_inherited
from epaird.control.handover.predecessor import Leftovers, find_leftovers
from epaird.control.handover.rundirectory import RunDirectory
from epaird.control.handover.takeover import Takeover
from epaird.control.interfaces.frontend import FrontEnd
from epaird.control.interfaces.registry import Registry
from epaird.control.machine.descriptors import have_enough, needed
from epaird.control.machine.host import Host
from epaird.control.machine.namespaces import Namespaces
from epaird.control.metrics.page import MetricsPage
from epaird.control.operations import Refused
from epaird.control.readings import Reading
from epaird.control.reloading.filewatch import FileWatch
from epaird.control.reloading.inforce import ConfigurationInForce, Source
from epaird.control.reloading.reload import Reloads
from epaird.control.tasks import all_or_none, spawn, together
from epaird.control.workers.liveness import watch as watch_hearts
from epaird.control.workers.pool import Workforce
from epaird.control.workers.processes import Spares
from epaird.control.workers.worker import Worker, WorkerLost
from epaird.ipc.ledger import Slots
from epaird.names import mac
from epaird.names.macpool import MacPool
from epaird.plan.diff import interfaces

log = logging.getLogger(__name__)

CONTROL, OWN_CONTROL, PAGE = "control", "own-control", "metrics"
"""Names under which sockets that listen are passed to us: for control, bound by the service manager or by
ourselves, and of the metrics page."""


class Daemon:
    """The control plane."""

    def __init__(
        self, configuration: Configuration, manager: Notifier | None = None, source: Source | None = None
    ) -> None:
        """``manager`` is who starts the service, and keeps descriptors for it; ``source`` is where the
        configuration is from.

        Raises KernelError when another daemon has the run directory."""
        self._in_force = ConfigurationInForce(configuration, source)
        self._manager = manager or Notifier(None)
        self.upgrading = asyncio.Event()
        """The program on disk can take over, and is to."""
        self._leaving = False
        """What there is, is left to a successor when this ends."""
        self._undo = contextlib.AsyncExitStack()
        self._take_possession(configuration.daemon.control_socket.parent)
        self._spares = Spares()
        self._hearts: asyncio.Task[None] | None = None
        self._workers = [self._worker(number) for number in range(_worker_count(configuration))]
        self._registry = Registry(
            self._host, self._table, self._slots, self._workers, self._macs,
            loopbacks=configuration.lo is not None,
        )  # fmt: skip
        self._front_end = FrontEnd(self._registry, upgrade=self.upgrade)
        self._handover = Handover(
            self._directory, self._host, self._table, self._slots, self._macs, self._workers,
            self._registry, self._manager, self._in_force,
        )  # fmt: skip
        self._handover.disown(self._leftovers.unknown)
        self._undo.callback(lambda: self._handover.end(keep=self._leaving))
        self._namespaces = Namespaces(self._host, self._directory.path)
        self._workforce = Workforce(self._workers, self._registry, self._slots, self._worker)
        self._page = MetricsPage(self.reading)
        self._file_watch: FileWatch | None = None
        self.reloads = self._reloading()

    def _take_possession(self, directory: Path) -> None:
        """Of the run directory, and of what a predecessor has left, or of a new ledger."""
        self._passed = take_inherited()
        self._directory = RunDirectory(directory, _passed(self._passed, LOCK))
        self._undo.callback(lambda: self._directory.release(keep=self._leaving))
        self._host = Host()
        self._undo.callback(self._host.close)
        keep = (LOCK, CONTROL, OWN_CONTROL, PAGE)
        self._leftovers = find_leftovers(directory, self._passed, self._host.home, keep=keep)
        # Until it is all ours, whatever fails is no reason to take it down.
        self._leaving = self._leftovers.usable
        self._table = open_ledger(self._leftovers.ledgers, self._leftovers.slots)
        self._undo.callback(os.close, self._table.fd)
        state = self._leftovers.state
        self._macs = MacPool(mac.host_id(), state.macs_made if state is not None else 0)
        self._slots = Slots(self._table, self._leftovers.slots, resting=True)

    def _reloading(self) -> Reloads:
        return Reloads(
            self._in_force,
            host=self._host,
            registry=self._registry,
            namespaces=self._namespaces,
            reconfigure=self._go_by,
            shrink=self._shrink,
            shortages=lambda wanted: have_enough(needed(wanted)),
            moving=lambda wanted: self._page.moving(wanted.metrics),
            begun=lambda: self._manager.reloading(time.monotonic_ns()),
            ended=lambda: self._manager.ready(self.health().status),
        )

    async def __aenter__(self) -> Daemon:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._undo.aclose()

    async def start(self) -> None:
        """Make what the configuration says, and tell what was made.

        Raises KernelError, ListenError, WorkerLost or WorkerRefused; leaving the context takes down what
        there is."""
        configuration, undo = self._in_force.current, self._undo
        # Bound first, so that of two daemons only one begins; whoever asks it before all is made waits.
        control = self._control = self._bind_control()
        undo.push_async_callback(self._page.stop)
        self._page.open(configuration.metrics, listener(self._passed, PAGE))
        undo.push_async_callback(self._spares.stop)
        undo.callback(lambda: self._hearts is not None and self._hearts.cancel())
        undo.push_async_callback(self._let_go)
        takes_over, said = self._leftovers.usable, self._leftovers.configured
        inherited = {orphan.about.pid for orphan in self._leftovers.orphans}
        workers_before = len(self._leftovers.state.workers) if self._leftovers.state is not None else 0
        await Takeover(
            self._leftovers, self._host, self._table, self._slots, self._workers, self._registry
        ).take_over()
        await self._workforce.tune(configuration.daemon)
        await together(*(worker.start() for worker in self._workers if not worker.forwards))
        undo.push_async_callback(self._unless_leaving, self._namespaces.remove_all)
        await self._namespaces.create(configuration.namespaces.create)
        undo.push_async_callback(self._unless_leaving, self._registry.destroy_all)
        undo.callback(lambda: self._registry.set_drain_timeout(self._in_force.daemon.drain_timeout))
        undo.callback(self._host.stop_watching)
        await self._create(configuration)
        # Not before: a thousand pairs that are made, or that go, have 16,000 things told of them.
        self._host.watch(self._registry.link_event)
        self._registry.check_all()
        if takes_over and workers_before != len(self._workers):
            await self._workforce.share()
        if not self._host.hears_everything:
            undo.callback(spawn(self._registry.poll_namespaces(), "polling other namespaces").cancel)
        await self._page.start()
        await control.start()
        self._leaving = False
        self._leftovers = Leftovers()
        self._registry.bus.changed = self._handover.changed
        self._handover.write()
        self._keep_workers()
        self._watch_file()
        undo.callback(self._stop_watching_file)
        left_over = set(self._namespaces.there) - set(configuration.namespaces.create)
        if takes_over or left_over or any(half.settings.peer is not None for half in configuration.halves):
            await self.reloads.catch_up(said)
        if takes_over and os.environ.pop(reexec.UPGRADED, ""):
            self._renewing = spawn(self._renew(inherited), "renewing the workers")
            undo.callback(self._renewing.cancel)
        undo.push_async_callback(control.stop)  # and stopped before anything is taken down
        for line in greeting(self._registry, len(self._workers), self._page.url):
            log.info("%s", line)

    def _keep_workers(self) -> None:
        """From now on, see to it that every worker does something, and that one more is at hand."""
        self._spares.keep()
        self._watch_hearts()

    def _watch_hearts(self) -> None:
        if self._hearts is not None:
            self._hearts.cancel()
            self._hearts = None
        if hung_s := self._in_force.daemon.worker_timeout:
            self._hearts = spawn(watch_hearts(self._workers, hung_s), "watching the workers' hearts")

    @property
    def keeps_devices(self) -> bool:
        """Everything is to be left to a successor when this ends."""
        return self._in_force.daemon.keep_devices

    async def _go_by(self, configuration: Configuration) -> None:
        """Go by another configuration, as far as it is about the daemon itself; with workers enough."""
        now = configuration.daemon
        before, self._in_force.daemon = self._in_force.daemon, now
        if (now.log_level, now.log_format) != (before.log_level, before.log_format):
            logs.set_up(now.log_level, now.log_format)
        if now.worker_timeout != before.worker_timeout:
            self._watch_hearts()
        if now.watch != before.watch:
            self._watch_file()
        self._registry.allow_loopbacks(configuration.lo is not None)
        for half in configuration.halves:
            if half.settings.mac not in (None, "stable"):
                self._macs.reserve(str(half.settings.mac))
        await self._workforce.tune(now, before)
        try:
            await self._workforce.grow(_worker_count(configuration))
        finally:
            self._spares.keep()  # one that has grown may have taken the spare

    async def _shrink(self, configuration: Configuration) -> None:
        await self._workforce.shrink(_worker_count(configuration))

    def _watch_file(self) -> None:
        """Reload when the file changes, if that is wanted."""
        self._stop_watching_file()
        if self._in_force.daemon.watch and self._in_force.path is not None:
            self._file_watch = FileWatch(self._in_force.path, self._file_changed)

    def _file_changed(self) -> None:
        spawn(self.reloads.file_changed(), "reloading")

    def _stop_watching_file(self) -> None:
        if self._file_watch is not None:
            self._file_watch.close()
            self._file_watch = None

    async def end(self, *, upgrading: bool) -> list[tuple[str, int]]:
        """To be called when it is to end, before the context is left, which takes everything down then, or
        nothing, where it is a successor's.  What this very process keeps when it is ``upgrading``."""
        fds = [*self._listeners(), *self._handover.descriptors()] if upgrading else []
        if upgrading or self.keeps_devices:
            self._leaving = True
            self._handover.write()
        return fds

    async def upgrade(self) -> None:
        """Execute the program as it is on disk now.  Raises Refused when that cannot run."""
        if (objection := await reexec.objection()) is not None:
            raise Refused(errno.ENOEXEC, f"not upgraded: the program as it is now cannot run: {objection}")
        self.upgrading.set()

    def _listeners(self) -> list[tuple[str, int]]:
        """Copies of the sockets that listen, by name: who connects from now on waits for the successor."""
        ours, control = self._control.hand_over()
        page = self._page.copy()
        return [
            (OWN_CONTROL if ours else CONTROL, control),
            *([(PAGE, page)] if page is not None else []),
        ]

    async def _renew(self, inherited: set[int]) -> None:
        """Give every worker with one of these processes one of the code as it is now, one after the other."""
        for worker in tuple(self._workers):
            if worker.pid not in inherited:
                continue
            before, slot = worker.slot, self._slots.take()
            try:
                await worker.renew(slot)
            except WorkerLost as error:
                self._slots.release(slot)
                log.warning("%s", error)
            else:
                self._slots.release(before)
                log.info("worker %d is renewed (pid %d)", worker.number, worker.pid)
            self._spares.keep()
        log.info("upgraded to epaird %s", __version__)

    async def _let_go(self) -> None:
        """Of all workers there are by now."""
        await together(*(each.leave() if self._leaving else each.stop() for each in self._workers))

    async def _unless_leaving(self, what: Callable[[], Awaitable[None]]) -> None:
        if not self._leaving:
            await what()

    def health(self) -> Health:
        """Whether every worker is alive, and all there is, in a line."""
        dead = [each.worker for each in map(Worker.reading, self._workers) if not each.alive]
        status = summary(self._registry, len(self._workers))
        news = [f"worker {number} is not alive" for number in dead]
        if not self._in_force.reading().successful:
            news.append("the last reload failed")
        return Health(not dead, ", ".join([status, *news]))

    def reading(self) -> Reading:
        """Everything as it is now."""
        return replace(
            self._registry.reading(),
            configuration=self._in_force.reading(),
            tasks=len(asyncio.all_tasks()),
        )

    async def _create(self, configuration: Configuration) -> None:
        for half in configuration.halves:
            if half.settings.mac not in (None, "stable"):
                self._macs.reserve(str(half.settings.mac))
        await all_or_none(
            *(
                self._registry.create(name, settings)
                for name, settings in interfaces(configuration).items()
                if self._registry.get(name) is None
            )
        )

    def _worker(self, number: int) -> Worker:
        """The worker of a number, with the slot of its predecessor if there was one."""
        slot = self._leftovers.worker_slot(number)
        if slot is None:
            slot = self._slots.take()
        else:
            self._table.migrate_worker(slot)
        settings = self._in_force.daemon
        return Worker(
            number,
            self._table,
            slot,
            queue_limit=settings.queue_limit,
            poll_spin_us=settings.poll_spin_us,
            gone=lambda _cable, device: self._registry.device_gone(device),
            lost=lambda worker: self._registry.worker_lost(worker),
            told=lambda worker, report: self._registry.worker_reported(worker, report),
            changed=lambda: self._registry.bus.changed(),
            spares=self._spares,
            directory=self._directory.path,
            orphan_timeout=settings.orphan_timeout,
        )

    def _bind_control(self) -> ControlServer:
        passed, path = listener(self._passed, CONTROL), self._in_force.daemon.control_socket
        if (own := listener(self._passed, OWN_CONTROL)) is not None:
            control = ControlServer.resume(own, path, self._front_end, self.reloads)
        elif passed is not None:
            if (address := passed.getsockname()) != str(path):
                log.warning("daemon.control_socket: %s: the service manager has %s instead", path, address)
            control = ControlServer.inherit(passed, self._front_end, self.reloads)
        else:
            control = ControlServer.bind(path, self._front_end, self.reloads)
        self._undo.push_async_callback(control.stop)
        return control


def _passed(found: Iterable[Inherited], name: str) -> int | None:
    return next((each.fd for each in found if each.name == name), None)


def _worker_count(configuration: Configuration) -> int:
    workers = configuration.daemon.workers
    return len(os.sched_getaffinity(0)) if workers == "auto" else workers
