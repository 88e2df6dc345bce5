"""The daemon as a process: started, told to end, to reload or to go on with new code, and ended."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

import uvloop

from epaird.config.settings import Configuration
from epaird.control import logs
from epaird.control.daemon import Daemon
from epaird.control.handover import reexec
from epaird.control.handover.notify import Notifier, attend, watchdog_s
from epaird.control.http.listening import ListenError
from epaird.control.machine.descriptors import have_enough, needed
from epaird.control.operations import Refused
from epaird.control.reloading.reload import Source
from epaird.control.tasks import spawn
from epaird.control.workers.worker import WorkerLost, WorkerRefused
from epaird.kernel.errors import KernelError
from epaird.kernel.requirements import missing
from epaird.kernel.scheduling import stand_back

log = logging.getLogger(__name__)

STATUS_S = 60.0
"""How old the status may be that a service manager shows, where it wants no other sign of life."""


def run(configuration: Configuration, source: Source | None = None) -> int:
    """Run until SIGINT or SIGTERM; the exit status.  What is missing is said on stderr, a line each."""
    logs.set_up(configuration.daemon.log_level, configuration.daemon.log_format)
    lacking = missing(namespaces=_leaves_home(configuration)) or have_enough(needed(configuration))
    for line in lacking:
        log.error("%s", line)
    if lacking:
        return 1
    stand_back()
    return uvloop.run(_run(configuration, source))


async def _run(configuration: Configuration, source: Source | None = None) -> int:
    stop, hangup = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    manager = Notifier(os.environ.get("NOTIFY_SOCKET"))
    upgrade = asyncio.Event()
    asked = {signal.SIGINT: stop, signal.SIGTERM: stop, signal.SIGUSR2: upgrade, signal.SIGHUP: hangup}
    for number, event in asked.items():
        loop.add_signal_handler(number, event.set)
    reexec.let_signals_in()
    fds: list[tuple[str, int]] = []
    try:
        daemon = Daemon(configuration, manager, source)
    except KernelError as error:
        log.error("%s", error)
        return 1
    async with daemon:
        started = spawn(daemon.start(), "starting", awaited=True)
        stopped = spawn(_ending(daemon, stop, upgrade), "waiting for a signal")
        tasks = [started, stopped]
        await asyncio.wait((started, stopped), return_when=asyncio.FIRST_COMPLETED)
        try:
            if started.done():
                await started
                if manager:
                    tasks.append(_attend(manager, daemon))
                tasks.append(spawn(_reload_at(hangup, daemon), "reloading"))
                fds = await daemon.end(upgrading=await stopped)
        except (KernelError, ListenError, WorkerLost, WorkerRefused) as error:
            log.error("%s", error)
            return 1
        finally:
            for task in tasks:
                task.cancel()
                await asyncio.wait((task,))
        if not fds:
            manager.stopping()
            log.info("stopping")
    if fds:
        reexec.execute(fds)
    return 0


async def _ending(daemon: Daemon, stop: asyncio.Event, upgrade: asyncio.Event) -> bool:
    """Wait for a reason to end; whether it is to execute the program again, for which ``upgrade`` asks."""
    while not stop.is_set() and not daemon.upgrading.is_set():
        events = (stop, upgrade, daemon.upgrading)
        waiting = [spawn(event.wait(), "waiting for a reason to end", awaited=True) for event in events]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        if upgrade.is_set():
            upgrade.clear()
            try:
                await daemon.upgrade()
            except Refused as refusal:
                log.error("%s", refusal)
    return not stop.is_set()


async def _reload_at(hangup: asyncio.Event, daemon: Daemon) -> None:
    """For ever: reload when it is asked for; however often meanwhile, once more is enough."""
    while await hangup.wait():
        hangup.clear()
        await daemon.reloads.signalled()


def _attend(manager: Notifier, daemon: Daemon) -> asyncio.Task[None]:
    """Tell the service manager that everything is there, and from now on how it is."""
    manager.ready(daemon.health().status)
    interval_s = (watchdog_s(os.environ, os.getpid()) or STATUS_S) / 2
    return spawn(attend(manager, interval_s, daemon.health), "telling the service manager")


def _leaves_home(configuration: Configuration) -> bool:
    return bool(configuration.namespaces.create) or any(each.namespace for each in configuration.interfaces)
