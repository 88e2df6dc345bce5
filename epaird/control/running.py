"""The daemon as a process: its start, its signals, and its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine, Mapping
from typing import Any

import uvloop

from epaird.config.settings import Configuration
from epaird.control import logs
from epaird.control.daemon import Daemon
from epaird.control.ending import Ending
from epaird.control.handover import reexec
from epaird.control.handover.notify import Notifier, attend, watchdog_s
from epaird.control.http.listening import ListenError
from epaird.control.logroutes import logged_stderr
from epaird.control.machine.descriptors import raise_limit
from epaird.control.operations import Refused
from epaird.control.reloading.inforce import Source
from epaird.control.tasks import spawn
from epaird.control.workers.worker import WorkerLost, WorkerRefused
from epaird.kernel.errors import KernelError
from epaird.kernel.requirements import missing
from epaird.kernel.scheduling import use_long_slices
from epaird.startup import deliver_signals

log = logging.getLogger(__name__)

STATUS_S = 60.0
"""Seconds after which the service manager's status is updated at the latest, where there is no watchdog."""


def run(configuration: Configuration, source: Source | None = None) -> int:
    """Run until SIGINT or SIGTERM; return the exit status. Each missing requirement is logged in one line."""
    logs.set_up(configuration.daemon.log_level, configuration.daemon.log_format)
    try:
        problems = missing(namespaces=_uses_namespaces(configuration))
        for line in problems:
            log.error("%s", line)
        if problems:
            return 1
        raise_limit()
        use_long_slices()
        with logged_stderr():
            return uvloop.run(_run(configuration, source, Ending()))
    except Exception as error:
        log.critical("internal error: %r", error, exc_info=True)
        return 1
    finally:
        logs.flush()


async def _run(
    configuration: Configuration, source: Source | None = None, ending: Ending | None = None
) -> int:
    stop, hangup, upgrade = asyncio.Event(), asyncio.Event(), asyncio.Event()
    manager = Notifier(os.environ.get("NOTIFY_SOCKET"))
    _handle_signals(
        {signal.SIGINT: stop, signal.SIGTERM: stop, signal.SIGUSR2: upgrade, signal.SIGHUP: hangup}, ending
    )
    fds: list[tuple[str, int]] = []
    try:
        daemon = Daemon(configuration, manager, source)
    except KernelError as error:
        log.error("%s", error)
        return 1
    ending = ending or Ending()
    ending.daemon = daemon
    async with daemon:
        started = spawn(daemon.start(), "starting", awaited=True)
        stopped = spawn(_wait_for_end(daemon, stop, upgrade, started), "waiting for a signal")
        tasks = [started, stopped]
        await asyncio.wait((started, stopped), return_when=asyncio.FIRST_COMPLETED)
        try:
            if started.done():
                await started
                if manager:
                    tasks.append(_report(manager, daemon))
                tasks.append(spawn(_reload_at(hangup, daemon), "reloading"))
                fds = await daemon.end(upgrading=await stopped)
            else:
                daemon.interrupt()
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
        logs.flush()
        # In this order: no signal is handled any more, and the one that is passed on must not be either.
        reexec.execute(fds, stopped=lambda: ending.requested() or stop.is_set())
    return 0


def _handle_signals(events: Mapping[signal.Signals, asyncio.Event], ending: Ending | None) -> None:
    """Set the event of each signal that arrives; ``ending`` observes them, where there is one."""
    loop = asyncio.get_running_loop()
    for number, event in events.items():
        loop.add_signal_handler(number, event.set)
    if ending is not None:
        ending.observe()
    deliver_signals(ending=ending is None)


async def _wait_for_end(
    daemon: Daemon, stop: asyncio.Event, upgrade: asyncio.Event, started: asyncio.Future[None]
) -> bool:
    """Wait for a reason to end; return whether it is an upgrade, which ``upgrade`` requests.

    An upgrade is possible once the daemon has ``started``; one that is refused is no reason."""
    await _first(stop.wait(), asyncio.wait((started,)))
    while not stop.is_set() and not daemon.upgrading.is_set():
        await _first(stop.wait(), upgrade.wait(), daemon.upgrading.wait())
        if upgrade.is_set():
            upgrade.clear()
            await _first(stop.wait(), _upgrade(daemon))
    return not stop.is_set()


async def _first(*reasons: Coroutine[Any, Any, object]) -> None:
    """Wait for the first of several reasons; the others are cancelled."""
    waiting = [spawn(each, "waiting for a reason to end", awaited=True) for each in reasons]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


async def _upgrade(daemon: Daemon) -> None:
    try:
        await daemon.upgrade()
    except Refused as refusal:
        log.error("%s", refusal)


async def _reload_at(hangup: asyncio.Event, daemon: Daemon) -> None:
    """Reload at every signal, for ever; signals during a reload cause one more."""
    while await hangup.wait():
        hangup.clear()
        await daemon.reloads.signalled()


def _report(manager: Notifier, daemon: Daemon) -> asyncio.Task[None]:
    """Report readiness to the service manager, and from now on the status."""
    manager.ready(daemon.health().status)
    interval_s = (watchdog_s(os.environ, os.getpid()) or STATUS_S) / 2
    return spawn(attend(manager, interval_s, daemon.health), "reporting to the service manager")


def _uses_namespaces(configuration: Configuration) -> bool:
    return bool(configuration.namespaces.create) or any(
        interface.namespace for interface in configuration.interfaces
    )
