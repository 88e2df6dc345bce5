"""The control plane: its parts, started in order, and taken down in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from epaird.config.settings import Configuration
from epaird.control import logs
from epaird.control.api.server import ControlServer
from epaird.control.creating import create_interfaces, reserve
from epaird.control.ending import BOUND_S
from epaird.control.greeting import greeting, summary
from epaird.control.handover import reexec
from epaird.control.handover.handover import Handover
from epaird.control.handover.notify import Health, Notifier
from epaird.control.handover.predecessor import Leftovers
from epaird.control.handover.takeover import Takeover
from epaird.control.handover.upkeep import Restorable, Upkeep
from epaird.control.interfaces.frontend import FrontEnd
from epaird.control.interfaces.registry import Registry
from epaird.control.machine.descriptors import WORKER, check_start, growth, raise_limit
from epaird.control.machine.namespaces import Namespaces
from epaird.control.metrics.page import MetricsPage
from epaird.control.operations import Refused
from epaird.control.readings import Reading
from epaird.control.reloading.filewatch import ConfiguredWatch
from epaird.control.reloading.inforce import ConfigurationInForce, Source
from epaird.control.reloading.reload import Reloads
from epaird.control.reloading.remaking import Remaking
from epaird.control.resources import CONTROL, OWN_CONTROL, PAGE, Resources
from epaird.control.tasks import spawn, whole
from epaird.control.workers.pool import WorkerPool
from epaird.control.workers.processes import Spares
from epaird.control.workers.readers import Readers
from epaird.control.workers.worker import Worker
from epaird.plan.steps import Plan

log = logging.getLogger(__name__)

CLONE_S: Final = 0.01
"""Time in seconds that destroying an interface may take."""
CLONES_S: Final = 30.0
"""Time in seconds that destroying all of them may take."""


class Daemon:
    """The control plane."""

    def __init__(
        self, configuration: Configuration, manager: Notifier | None = None, source: Source | None = None
    ) -> None:
        """Build the parts without starting any.

        ``manager`` is the service manager, which also stores descriptors; ``source`` is the file of the
        configuration. Raises KernelError when another daemon has the run directory."""
        self._in_force = ConfigurationInForce(configuration, source)
        self._manager = manager or Notifier(None)
        self.upgrading = asyncio.Event()
        """Set when an upgrade was requested and the installed program can run."""
        self._undo = contextlib.AsyncExitStack()
        self._started = False
        self._interrupted = False
        self.waits_for = "starting"
        """What the daemon does at the moment, in words that continue ``still``, until it has ended."""
        directory = configuration.daemon.control_socket.parent
        self._resources = held = Resources(directory, self._undo, lambda: self._leaving)
        self._leaving = held.leftovers.usable
        """True when devices and state are left to a successor at the end. Until everything is taken over, a
        failure is no reason to take a predecessor's devices down."""
        self._spares = Spares()
        self._readers = Readers()
        self._workers = WorkerPool(
            configuration.daemon.worker_count, held.slots, self._spares, self._make_worker,
            lambda: self._registry, lambda clone, workers: self._registry.reassign(clone, workers),
        )  # fmt: skip
        held.descriptors.workers = lambda: len(self._workers)
        self._registry = Registry(
            held.host, held.table, held.slots, self._workers, held.macs,
            loopbacks=configuration.lo is not None,
        )  # fmt: skip
        self._front_end = FrontEnd(
            self._registry, upgrade=self.upgrade, workers=self._workers.processes,
            commit=lambda names: self._handover.commit(names),
        )  # fmt: skip
        self._handover = Handover(
            held.directory, held.host, held.table, held.slots, held.macs, self._workers,
            self._registry, self._manager, self._in_force,
        )  # fmt: skip
        self._handover.disown(held.leftovers.unknown)
        self._at_end("removing the state file", lambda: self._handover.end(keep=self._leaving))
        self._namespaces = Namespaces(held.host, held.directory.path)
        self._page = MetricsPage(self.reading, held.descriptors)
        self.reloads = self._make_reloads()
        self._file_watch = ConfiguredWatch(self._in_force, self.reloads.file_changed)
        self._remaking = Remaking(
            self._in_force, registry=self._registry, host=held.host, namespaces=self._namespaces,
            lock=self.reloads.one_at_a_time,
        )  # fmt: skip
        self._registry.missing = self._remaking.missing
        self._upkeep = self._make_upkeep()

    async def __aenter__(self) -> Daemon:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._undo.aclose()

    async def start(self) -> None:
        """Take over what a predecessor has left, create the configured interfaces, and log them.

        Raises KernelError, ListenError, WorkerLost or WorkerRefused; leaving the context takes down whatever
        has been created."""
        configuration, undo, held = self._in_force.current, self._undo, self._resources
        if not held.leftovers.usable:
            check_start(configuration)
        # Bound first, so that of two daemons only one begins. Requests wait until everything is created.
        control = self._control = self._bind_control()
        self._at_end("answering clients of the metrics page", self._page.stop)
        self._page.open(configuration.metrics, held.listener(PAGE))
        self._at_end("ending the spare worker", self._spares.stop)
        undo.callback(self._workers.unwatch)
        self._at_end("ending the workers", self._stop_or_leave_workers)
        self._at_end("removing namespaces", lambda: self._unless_leaving(self._remove_namespaces))
        self._at_end("destroying interfaces", lambda: self._unless_leaving(self._registry.destroy_all))
        undo.callback(lambda: self._registry.set_drain_timeout(self._in_force.daemon.drain_timeout))
        undo.callback(held.host.stop_watching)
        left = held.leftovers
        takes_over, configured = left.usable, left.configured
        workers_before = len(left.state.workers) if left.state is not None else 0
        await self._take_over(left)
        await self._workers.tune(configuration.daemon)
        await self._workers.start()
        if takes_over:
            self._registry.withdrawn |= left.withdrawn_from(configuration)
        await self._namespaces.create(configuration.namespaces.create)
        reserve(held.macs, configuration)
        await create_interfaces(self._registry, configuration, takes_over=takes_over)
        # Not before: a thousand pairs that are created, or destroyed, cause 16,000 events.
        held.host.watch(self._registry.link_event, self._registry.known_devices)
        await self._registry.check_all()
        if takes_over and workers_before != len(self._workers):
            await self._workers.share()
        if not held.host.watches_all_namespaces:
            undo.callback(spawn(self._registry.poll_namespaces(), "polling other namespaces").cancel)
        await self._page.start()
        await control.start()
        self._front_end.impairments.start(undo)
        self._leaving = False
        held.leftovers = Leftovers()
        self._registry.bus.on_change = self._handover.changed
        self._handover.write()
        self._workers.keep_spare()
        await self._file_watch.update()
        self._remaking.start()
        self._upkeep.start()
        self._at_end("ending changes", self._stop_changes)
        left_over = set(self._namespaces.owned) - set(configuration.namespaces.create)
        if takes_over or left_over or any(half.settings.peer is not None for half in configuration.halves):
            await self.reloads.catch_up(configured)
        if takes_over:
            upgraded = bool(os.environ.pop(reexec.UPGRADED, ""))
            undo.callback(spawn(self._workers.renew(upgraded=upgraded), "renewing the workers").cancel)
        self._at_end("answering requests", control.stop)  # before anything is taken down
        self._started = True
        self.waits_for = "running"
        for line in greeting(self._registry, len(self._workers), self._page.url):
            log.info("%s", line)

    @property
    def keeps_devices(self) -> bool:
        """True when devices and state are left to a successor at the end."""
        return self._in_force.daemon.keep_devices

    @property
    def ending_s(self) -> float:
        """Time in seconds that an orderly end may take."""
        devices = min(len(tuple(self._registry)) * CLONE_S, CLONES_S)
        return BOUND_S + self._in_force.daemon.drain_timeout + devices

    def interrupt(self) -> None:
        """Prepare the end during the start, before the context is left.

        What a predecessor has left is taken down, unless devices are kept."""
        self._interrupted = True
        self._leaving = self._leaving and self.keeps_devices

    def give_up(self) -> None:
        """Give everything up at once, in any thread: without workers, and once this process has ended, the
        kernel destroys the devices. Nothing is given up that is left to a successor."""
        if self._leaving or (self._started and self.keeps_devices):
            return
        self._workers.kill()
        self._handover.end_now()

    async def end(self, *, upgrading: bool) -> list[tuple[str, int]]:
        """Prepare the end, before the context is left: decide what is taken down then.

        Return the descriptors, by name, that this process keeps when it is ``upgrading``."""
        # Whatever is created later would not be known to the successor.
        await self._stop_changes()
        if upgrading or self.keeps_devices:
            await self._upkeep.check()
        fds = [*self._listeners(), *self._handover.descriptors()] if upgrading else []
        if upgrading or self.keeps_devices:
            self._leaving = True
            self._handover.write()
        return fds

    async def upgrade(self) -> None:
        """Request that the installed program is executed. Raises Refused when it cannot run."""
        devices = sum(ifnet.descriptors for ifnet in self._registry.ifnets)
        if problem := self._resources.descriptors.adoption_shortage(devices):
            raise Refused(errno.EMFILE, f"not upgraded: {problem}")
        if (objection := await reexec.objection()) is not None:
            raise Refused(errno.ENOEXEC, f"not upgraded: the program as it is now cannot run: {objection}")
        if (objection := self._handover.objection()) is not None:
            raise Refused(errno.EIO, f"not upgraded: {objection}")
        self.upgrading.set()

    def health(self) -> Health:
        """Return whether every worker is alive, and the status in one line."""
        dead = [each.worker for each in map(Worker.reading, self._workers) if not each.alive]
        status = summary(self._registry, len(self._workers))
        problems = [f"worker {number} is not alive" for number in dead]
        if not self._in_force.reading().successful:
            problems.append("the last reload failed")
        if self._handover.problem:
            problems.append(f"the state cannot be written: {self._handover.problem}")
        if missing := len(self._absent()):
            problems.append(f"{missing} of the configuration {'is' if missing == 1 else 'are'} missing")
        return Health(not dead, ", ".join([status, *problems]))

    def reading(self) -> Reading:
        """Return the counters and the state of everything."""
        return replace(
            self._registry.reading(),
            configuration=self._in_force.reading(),
            missing=self._absent(),
            tasks=len(asyncio.all_tasks()),
            log_lines_lost=logs.lost(),
            state_write_errors=self._handover.write_errors,
            state_problem=self._handover.problem,
        )

    async def _take_over(self, left: Leftovers) -> None:
        self._registry.pairs.impairments.use(self._in_force.current.presets, self._in_force.path)
        # An orphan can hang, too.
        self._workers.watch(self._in_force.daemon.worker_timeout)
        held = self._resources
        takeover = Takeover(
            left, held.host, held.table, held.slots, self._workers, self._registry, self._readers
        )
        # Whole: what is half taken over could neither be left nor be taken down.
        await whole(takeover.take_over())

    def _make_worker(self, number: int) -> Worker:
        settings, held = self._in_force.daemon, self._resources
        return Worker(
            number,
            held.table,
            held.worker_slot(number),
            queue_limit=settings.queue_limit,
            poll_spin_us=settings.poll_spin_us,
            device_gone=lambda _cable, device: self._registry.device_gone(device),
            died=lambda worker: self._registry.worker_lost(worker),
            notify=lambda worker, report: self._registry.worker_reported(worker, report),
            changed=lambda: self._registry.bus.changed(),
            spares=self._spares,
            directory=held.directory.path,
            orphan_timeout=settings.orphan_timeout,
            readers=self._readers,
        )

    def _make_reloads(self) -> Reloads:
        return Reloads(
            self._in_force,
            host=self._resources.host,
            registry=self._registry,
            namespaces=self._namespaces,
            reconfigure=self._apply,
            shrink=lambda wanted: self._workers.shrink(wanted.daemon.worker_count),
            shortage=self._shortage,
            moving=lambda wanted: self._page.moving(wanted.metrics),
            begun=lambda: self._manager.reloading(time.monotonic_ns()),
            ended=self._reload_ended,
        )

    def _reload_ended(self) -> None:
        self._handover.write()  # before the answer, as with every request
        self._manager.ready(self.health().status)

    def _make_upkeep(self) -> Upkeep:
        return Upkeep(
            self._resources.directory,
            (
                Restorable(
                    "the control socket", lambda: self._control.has_file, lambda: self._control.restore_file()
                ),
                Restorable(
                    "sockets of workers", lambda: self._workers.can_be_found, self._workers.listen_again
                ),
                Restorable(
                    "the record of namespaces", lambda: self._namespaces.recorded, self._namespaces.record
                ),
                Restorable("the state", lambda: self._handover.written, self._handover.write_again),
            ),
        )

    def _shortage(self, found: Plan, wanted: Configuration) -> str:
        """Return why there are too few descriptors to apply a plan; empty if there are enough."""
        raise_limit()
        existing = {clone.name: sum(each.descriptors for each in clone.ifnets) for clone in self._registry}
        workers = max(0, wanted.daemon.worker_count - len(self._workers))
        devices = growth(found, existing)
        return self._resources.descriptors.shortage(devices + WORKER * workers)

    def _bind_control(self) -> ControlServer:
        passed, path = self._resources.listener(CONTROL), self._in_force.daemon.control_socket
        descriptors = self._resources.descriptors
        if (own := self._resources.listener(OWN_CONTROL)) is not None:
            control = ControlServer.resume(own, path, self._front_end, self.reloads, descriptors)
        elif passed is not None:
            if (address := passed.getsockname()) != str(path):
                log.warning("daemon.control_socket: %s: the service manager has %s instead", path, address)
            control = ControlServer.inherit(passed, self._front_end, self.reloads, descriptors)
        else:
            control = ControlServer.bind(path, self._front_end, self.reloads, descriptors)
        self._at_end("answering requests", control.stop)
        return control

    async def _apply(self, configuration: Configuration) -> None:
        """Apply the settings of a configuration that concern the daemon itself; grow the worker pool."""
        now = configuration.daemon
        before, self._in_force.daemon = self._in_force.daemon, now
        if (now.log_level, now.log_format) != (before.log_level, before.log_format):
            logs.set_up(now.log_level, now.log_format)
        if now.worker_timeout != before.worker_timeout:
            self._workers.watch(now.worker_timeout)
        if now.watch != before.watch:
            await self._file_watch.update()
        self._registry.allow_loopbacks(configuration.lo is not None)
        reserve(self._resources.macs, configuration)
        await self._workers.tune(now, before)
        try:
            await self._workers.grow(now.worker_count)
        finally:
            self._workers.keep_spare()  # a new worker may have taken the spare

    async def _stop_changes(self) -> None:
        """End everything that changes interfaces without a request; wait for what is under way."""
        self.waits_for = "reading the configuration file"
        await self._file_watch.stop()
        self.waits_for = "creating the run directory again"
        await self._upkeep.stop()
        self.waits_for = "creating what is missing"
        await self._remaking.stop()
        self.waits_for = "applying a reload"
        await self.reloads.stop()

    def _absent(self) -> tuple[str, ...]:
        """Return the pairs and loopbacks of the configuration that do not exist."""
        return self._in_force.absent(self._registry.names)

    def _listeners(self) -> list[tuple[str, int]]:
        """Return copies of the listening sockets by name: clients that connect now wait for the successor."""
        page = self._page.copy()
        return [
            *((OWN_CONTROL if own else CONTROL, fd) for own, fd in self._control.hand_over()),
            *([(PAGE, page)] if page is not None else []),
        ]

    def _at_end(self, doing: str, step: Callable[[], Awaitable[None] | None]) -> None:
        """Add a step of the end; it precedes those that were added before. ``doing`` describes it."""

        async def carry_out() -> None:
            self.waits_for = doing
            if (result := step()) is not None:
                await result

        self._undo.push_async_callback(carry_out)

    async def _remove_namespaces(self) -> None:
        if self._interrupted:
            self._namespaces.find()  # those of a predecessor, which the start may not have reached
        await self._namespaces.remove_all()

    async def _stop_or_leave_workers(self) -> None:
        await (self._workers.leave() if self._leaving else self._workers.stop())

    async def _unless_leaving(self, take_down: Callable[[], Awaitable[None]]) -> None:
        if not self._leaving:
            await take_down()
