"""Interfaces and namespaces of the configuration that others have deleted are created again.

1. The configuration in force is compared with what exists when a name of a namespace appears, and at
   intervals if anything has changed (:mod:`epaird.control.reloading.namecheck`). Interfaces that a request
   has destroyed or created at runtime are left alone.
2. An interface whose namespaces exist is due: at once when they have just returned, otherwise after a pause
   that grows with each attempt (:mod:`epaird.control.reloading.attempts`). A namespace that the daemon
   creates is due likewise; interfaces in it follow.
3. Everything that is due is created by the steps that a reload would take, while no reload runs. After a
   failure it is still missing, and is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import Final

from epaird.config.settings import Configuration, InterfaceSettings
from epaird.control.interfaces.registry import Registry
from epaird.control.machine.host import Host
from epaird.control.machine.namespaces import Namespaces
from epaird.control.operations import Refused
from epaird.control.readings import MissingReading
from epaird.control.reloading.attempts import Attempts
from epaird.control.reloading.current import running_state
from epaird.control.reloading.inforce import ConfigurationInForce
from epaird.control.reloading.namecheck import NameCheck, View
from epaird.control.tasks import in_thread, spawn
from epaird.control.workers.worker import WorkerLost, WorkerRefused
from epaird.kernel.errors import KernelError
from epaird.kernel.namespace import is_of_process
from epaird.kernel.netnswatch import NameWatch
from epaird.names.cloners import half_of
from epaird.plan.diff import plan
from epaird.plan.steps import Create, Patch, Plan

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""Interval of comparisons in seconds: a namespace given by a path appears without an event."""
_LEAST_S: Final = 0.01
"""Least pause before a comparison in seconds, also while a reload runs for long."""
_AFTER_NAMES_S: Final = (0.0, 0.02, 0.08, 0.3)
"""Pauses of comparisons after a name of a namespace appeared: the namespace is mounted on it a moment later,
without an event."""
_NAMESPACE: Final = "namespace "
"""Prefix of a namespace among the names of interfaces."""
_DESTROYED: Final = "destroyed on request: epairctl reload creates it again"
_FAILURES: Final = (KernelError, WorkerLost, WorkerRefused, Refused)


class Remaking:
    """Creates again what others have deleted."""

    def __init__(
        self,
        in_force: ConfigurationInForce,
        *,
        registry: Registry,
        host: Host,
        namespaces: Namespaces,
        lock: asyncio.Lock,
    ) -> None:
        """``lock`` is held while a configuration is applied."""
        self._in_force = in_force
        self._registry = registry
        self._host = host
        self._namespaces = namespaces
        self._lock = lock
        self._names = NameCheck(in_force, registry, host)
        self._settled: View | None = None
        """The view in which nothing was left to do; None if there is none, or if that is uncertain."""
        self._watch: NameWatch | None = None
        self._attempts = Attempts()
        self._reasons: dict[str, str] = {}
        """The reason that was logged last for each name that is missing."""
        self._soon: deque[float] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._task = spawn(self._run(), "watching for what is missing")

    async def stop(self) -> None:
        """Stop creating; complete what is being created. A second call does nothing."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,) if self._looking is None else (task, self._looking))

    def missing(self) -> tuple[MissingReading, ...]:
        """Return the interfaces of the configuration that do not exist, and the reasons as far as known."""
        present, withdrawn = self._registry.names, self._registry.withdrawn
        return tuple(
            MissingReading(
                device=each.device,
                kind=str(each.location[0]),
                pair=name if name != each.device else "",
                name=each.name,
                netns=each.namespace,
                reason=_DESTROYED if name in withdrawn else self._reasons.get(name, ""),
            )
            for name, settings in self._in_force.current.settings_by_name().items()
            if name not in present
            for each in settings.devices(name)
        )

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        watch = self._watch = NameWatch()
        try:
            if watch.problem is not None:
                log.warning("%s: names of namespaces are only checked every %g s", watch.problem, LOOK_S)
            if watch.fileno() >= 0:
                loop.add_reader(watch.fileno(), self._named, watch)
            while True:
                await self._wait(loop.time())
                if not self._lock.locked():  # otherwise what is missing may be on its way
                    # A task of its own, which is completed; its failure is logged, and the watch goes on.
                    self._looking = spawn(self._look(loop.time()), "creating what is missing")
                    await asyncio.wait((self._looking,))
        finally:
            if watch.fileno() >= 0:
                loop.remove_reader(watch.fileno())
            watch.close()

    def _named(self, watch: NameWatch) -> None:
        if self._names.concerned(watch.drain()):
            self._settled = None
            self._soon = deque(_AFTER_NAMES_S)
            self._wake.set()

    async def _wait(self, now: float) -> None:
        """Wait until the next comparison."""
        pause = self._soon.popleft() if self._soon else min(LOOK_S, self._attempts.next() - now)
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(pause, _LEAST_S)):
                await self._wake.wait()

    async def _look(self, now: float) -> None:
        async with self._lock:
            view = self._names.view()
            if self._is_settled(view):
                self._attempts.due(now, {})
                return
            self._settled = view  # unless an event, or what follows, resets it
            self._host.check_names()
            if not await self._registry.follow_names():
                self._settled = None
            missing = self._missing()
            if missing or self._watch is None or self._watch.problem is not None:
                self._settled = None
            for name in self._reasons.keys() - missing.keys():
                del self._reasons[name]
            due = self._attempts.due(now, {name: not reason for name, reason in missing.items()})
            for name, reason in missing.items():
                if reason and reason != self._reasons.get(name):
                    log.warning("%s: missing, and created again when it can be: %s", name, reason)
                    self._reasons[name] = reason
            if due:
                await self._make(due)

    def _is_settled(self, view: View) -> bool:
        """Return whether nothing has changed since nothing was left to do."""
        absent = self._in_force.absent(self._registry.names)
        return view == self._settled and self._registry.withdrawn.issuperset(absent)

    def _missing(self) -> dict[str, str]:
        """Return what is missing, and why it cannot be created now, if a reason is known."""
        current, registry = self._in_force.current, self._registry
        existing: dict[str, str] = {}

        def obstacle(netns: str) -> str:
            if netns not in existing:
                existing[netns] = self._obstacle(netns)
            return existing[netns]

        found = {_NAMESPACE + netns: "" for netns in current.namespaces.create if obstacle(netns)}
        for name, settings in current.settings_by_name().items():
            if registry.get(name) is None and name not in registry.withdrawn:
                wanted = {device.namespace for device in settings.devices(name)}
                found[name] = next(filter(None, map(obstacle, sorted(wanted))), "")
        return found

    def _obstacle(self, netns: str) -> str:
        """Return why a device cannot be created in a namespace; empty if no reason is known."""
        if not netns:
            return ""
        if is_of_process(netns):
            return f"{netns} may belong to another process by now, so that only a reload uses it again"
        try:
            self._host.namespace_identity(netns)
        except KernelError as error:
            if netns in self._in_force.current.namespaces.create and not error.lacking:
                return f"namespace {netns}: others have removed it, it is created again first"
            return str(error)
        return ""

    async def _make(self, due: set[str]) -> None:
        current, registry = self._in_force.current, self._registry
        for netns in current.namespaces.create:
            if _NAMESPACE + netns in due:
                await self._make_namespace(netns)
        if due.isdisjoint(current.settings_by_name()):
            return
        found = await self._plan(current)
        steps = {
            step.name: step.settings for step in found.steps if isinstance(step, Create) and step.name in due
        }
        outcomes = await asyncio.gather(*(self._create(name, each) for name, each in steps.items()))
        made = {name for name in outcomes if name}
        await self._patch(found.patches, made)
        for name in made:
            clone = registry.get(name)
            if clone is not None and not clone.destroying:
                registry.kind_of(clone).confirm(clone, steps[name])
        registry.bus.changed()

    async def _make_namespace(self, netns: str) -> None:
        try:
            await self._namespaces.add(netns)
        except KernelError as error:
            self._failed(_NAMESPACE + netns, error)
        else:
            log.warning("namespace %s: others have removed it: created again", netns)
            self._soon = deque((0.0,))  # its interfaces follow

    async def _plan(self, current: Configuration) -> Plan:
        state = running_state(self._registry, current, self._namespaces.owned, current)
        planned = partial(
            plan, state.configuration, current, peers=state.peers, lost=state.lost, applied=current
        )
        return await in_thread(planned)

    async def _create(self, name: str, settings: InterfaceSettings) -> str:
        """Create an interface; return its name if it exists then."""
        try:
            await self._registry.create(name, settings)
        except _FAILURES as error:
            self._failed(name, error)
            return ""
        self._reasons.pop(name, None)
        log.warning("%s: others have deleted it or a namespace of it: created again", name)
        return name

    def _failed(self, name: str, error: Exception) -> None:
        log.warning(
            "%s: missing, and cannot be created again: %s; the next attempt is in %g s",
            name, error, self._attempts.pause(name),
        )  # fmt: skip
        self._reasons[name] = str(error)

    async def _patch(self, patches: Iterable[Patch], made: set[str]) -> None:
        """Patch the halves that were made as the configuration says; one that has a peer keeps it."""
        pairs = self._registry.pairs
        for patch in patches:
            if patch.new is None or made.isdisjoint((half_of(patch.half)[0], half_of(patch.new)[0])):
                continue
            half, other = pairs.half(patch.half), pairs.half(patch.new)
            if half is None or other is None or half.destroying or other.destroying:
                continue
            occupied = [
                each for each in (half, other) if each.pair.name not in made and each.peer is not None
            ]
            if occupied:
                continue
            try:
                await pairs.patching.patch(half, other)
            except _FAILURES as error:
                log.warning("%s: not plugged into %s: %s", patch.half, patch.new, error)
