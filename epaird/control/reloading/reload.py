"""Reloads: the configuration is read again, planned, shown and applied, while everything else continues.

Every error in a file is reported before anything is changed. A reload starts from the running state, not
from the file that was read before: lost interfaces are created again, settings that were changed at runtime
are as in the file again, and interfaces that were created at runtime stay unless the file has them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from epaird.config import saving
from epaird.config.reading import (
    ConfigurationFile,
    InvalidConfiguration,
    content,
    decode,
    digest,
    first_lines,
    is_blank,
    parse,
    quoted_path,
)
from epaird.config.settings import Configuration, InterfaceSettings, namespace_name
from epaird.config.values import dotted
from epaird.control.http.listening import ListenError
from epaird.control.interfaces.registry import Registry
from epaird.control.machine.host import Host
from epaird.control.machine.namespaces import Namespaces
from epaird.control.operations import Refused
from epaird.control.reloading.applying import Applying
from epaird.control.reloading.current import (
    RunningState,
    left_out,
    running_configuration,
    running_state,
)
from epaird.control.reloading.inforce import ConfigurationInForce
from epaird.control.tasks import in_thread, whole
from epaird.control.workers.worker import WorkerLost, WorkerRefused
from epaird.kernel.errors import KernelError
from epaird.plan.actions import Action, lines, summary
from epaird.plan.describe import actions
from epaird.plan.diff import plan
from epaird.plan.merge import merged, without
from epaird.plan.steps import Change, Create, Plan, Relocate, Step

log = logging.getLogger(__name__)

FAILURES: Final = (KernelError, WorkerLost, WorkerRefused, Refused)
"""Errors that a step of a plan may raise."""


class Reloads:
    """Reloads of the configuration in force; implements :class:`epaird.control.operations.Reloading`."""

    def __init__(
        self,
        in_force: ConfigurationInForce,
        *,
        host: Host,
        registry: Registry,
        namespaces: Namespaces,
        reconfigure: Callable[[Configuration], Awaitable[None]],
        shrink: Callable[[Configuration], Awaitable[None]],
        shortage: Callable[[Plan, Configuration], str],
        moving: Callable[[Configuration], AbstractAsyncContextManager[None]],
        begun: Callable[[], None] = lambda: None,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        """``reconfigure`` applies a configuration to the daemon itself and starts missing workers;
        ``shrink`` ends surplus ones. ``shortage`` returns why there are too few open files for a plan.

        ``moving`` moves the daemon's services to the addresses of a configuration, once its block has ended
        without an error; before, it raises ListenError. ``begun`` and ``ended`` are called around a
        reload."""
        self._in_force = in_force
        self._host = host
        self._registry = registry
        self._namespaces = namespaces
        self._reconfigure = reconfigure
        self._shrink = shrink
        self._shortage = shortage
        self._moving = moving
        self._begun = begun
        self._ended = ended
        self.one_at_a_time = asyncio.Lock()
        """Held while a configuration is compared with the running state, or applied."""
        self._reading = asyncio.Lock()
        """Held while a configuration is read, and until it is applied: one at a time takes memory, and the
        one that was read last applies. A file system that does not answer blocks nothing but this."""
        self._stopped = False

    async def stop(self) -> None:
        """Refuse every further reload; wait for one that is being applied."""
        self._stopped = True
        async with self.one_at_a_time:
            pass

    async def reload(self, *, dry_run: bool = False) -> tuple[Action, ...]:
        """Read the file again and apply it; return what was done, or would be done.

        Raises Refused with every problem, and then nothing has changed."""
        path = self._in_force.path
        if path is None:
            raise Refused(errno.ENOENT, "the configuration was read from no file")
        async with self._reading:
            if not dry_run:
                return await self._begin(path)
            file = await in_thread(_read, path)
        async with self.one_at_a_time:
            return await in_thread(actions, await self._plan(file.configuration))

    async def catch_up(self, configured: Mapping[str, InterfaceSettings]) -> None:
        """Apply the configuration in force to what a predecessor has left.

        A setting that was changed at runtime stays, unless the file has another value for it now than the
        one that the predecessor applied, and what a request has destroyed is not created. ``configured`` are
        these applied settings, by interface. An error is logged, and everything stays as it was."""
        async with self.one_at_a_time:
            configuration = self._in_force.current
            state = self._running_state(configuration)
            wanted = merged(state.configuration, state.peers, configured, configuration)
            wanted = without(wanted, self._registry.withdrawn)
            try:
                found = await self._plan(wanted, first=True)
                if not found.empty:
                    _log(actions(found))
                    await self._apply(found, wanted)
            except Refused as refusal:
                for problem in refusal.problems or (str(refusal),):
                    log.error("%s", problem)
            self._in_force.current = configuration

    async def signalled(self) -> None:
        """Reload on a signal: the result is only logged."""
        try:
            await self.reload()
        except Refused as refusal:
            log.debug("%s", refusal)

    async def file_changed(self, sha256: str) -> None:
        """Reload if the file has the text of this digest and was not read since: the result is only logged.

        Otherwise nothing happens: the text may have changed again, or a reload has found it before."""
        path = self._in_force.path
        if path is None:
            return
        async with self._reading:
            with contextlib.suppress(InvalidConfiguration):
                text = await in_thread(content, path)
                if digest(text) == sha256 != self._in_force.digest:
                    log.info("%s has changed", quoted_path(path))
                    with contextlib.suppress(Refused):  # it is in the log
                        await self._begin(path, text)

    async def plan(self, text: str, name: str) -> tuple[Action, ...]:
        """Return what a reload of a file with this text would do. Raises Refused with every problem."""
        async with self._reading:
            with _refusing():
                configuration = await in_thread(decode, _encoded(text), name)
        async with self.one_at_a_time:
            return await in_thread(actions, await self._plan(configuration))

    def text(self) -> str:
        """Return the running configuration as a file. Raises Refused when no file can express it."""
        found = running_configuration(self._registry, self._in_force.current, self._namespaces.owned)
        try:
            parse(found.model_dump())
        except InvalidConfiguration as error:
            problems = error.problems
            raise Refused(errno.EINVAL, "; ".join(problems), problems) from error
        return saving.text(found, left_out(self._registry))

    async def _begin(self, path: Path, text: bytes | None = None) -> tuple[Action, ...]:
        """Reload the file, or the ``text`` that it was found to have. Raises Refused."""
        if self._stopped:
            raise Refused(errno.ESHUTDOWN, "not reloaded: the daemon is ending")
        self._begun()
        try:
            return await self._reload(path, text)
        except Refused as refusal:
            for problem in refusal.problems or (str(refusal),):
                log.error("not reloaded: %s", problem)
            self._in_force.reload_failed()
            raise
        except Exception:
            log.exception("a reload failed with an internal error; what it had done is rolled back")
            self._in_force.reload_failed()
            raise
        finally:
            self._ended()

    async def _reload(self, path: Path, text: bytes | None) -> tuple[Action, ...]:
        # In a thread: reading and comparing a thousand pairs takes some tenths of a second.
        text = await in_thread(_text, path) if text is None else text
        self._in_force.digest = digest(text)
        if is_blank(text):
            log.warning("%s is empty: everything that it had is removed", quoted_path(path))
        file = await in_thread(_read, path, text)
        async with self.one_at_a_time:
            if self._stopped:
                raise Refused(errno.ESHUTDOWN, "the daemon is ending")
            # A caller that is cancelled leaves no reload half done.
            return await whole(self._carry_out(path, file))

    async def _carry_out(self, path: Path, file: ConfigurationFile) -> tuple[Action, ...]:
        found = await self._plan(file.configuration)
        done = await in_thread(actions, found)
        _log(done)
        await self._apply(found, file.configuration)
        self._in_force.reload_succeeded(file.sha256)
        log.info("reloaded %s: %s", quoted_path(path), summary(actions(found.possible)))
        return done

    async def _plan(self, configuration: Configuration, *, first: bool = False) -> Plan:
        """Return the plan from the running state to a configuration; ``first``: none was applied before.

        Raises Refused when it cannot be applied."""
        state = self._running_state(configuration)
        try:
            settings = {each.device: each.settings for each in state.configuration.interfaces}
            lacking = await self._registry.lacks(settings)
        except KernelError as error:
            raise Refused(error.errno, str(error)) from error
        planned = partial(
            plan,
            state.configuration,
            configuration,
            peers=state.peers,
            missing=lacking,
            strays=self._strays(),
            lost=state.lost,
            adopted=state.runtime,
            applied=None if first else self._in_force.current,
        )
        found = self._without_obstacle(await in_thread(planned))
        at_runtime = set(self._at_runtime(configuration))
        unusable = partial(self._namespace_problems, found, configuration, at_runtime)
        if problems := first_lines(await in_thread(unusable)):
            raise Refused(errno.EINVAL, "; ".join(problems), problems)
        if problem := self._shortage(found, configuration):
            raise Refused(errno.EMFILE, problem)
        return found

    def _strays(self) -> tuple[Relocate, ...]:
        self._registry.check_names()
        return tuple(
            Relocate(each.device, each.stray.netns, each.stray.here, each.stray.leads_to)
            for each in self._registry.ifnets
            if each.stray is not None and not each.destroying
        )

    def _running_state(self, configuration: Configuration) -> RunningState:
        # A namespace that a predecessor has left is removed unless an interface that stays is in it;
        # then it is removed when the daemon stops.
        current = self._in_force.current
        listed = set(current.namespaces.create)
        occupied = {netns for netns, _ in self._at_runtime(configuration)}
        namespaces = [name for name in self._namespaces.owned if name in listed or name not in occupied]
        return running_state(self._registry, current, namespaces, configuration)

    def _without_obstacle(self, found: Plan) -> Plan:
        """Return a plan in which an interface that was lost waits while its namespace does not exist.

        Only one that the configuration in force has as well: otherwise the name may be a mistake."""
        applied = self._in_force.current.settings_by_name()
        made = {*found.namespaces_created, ""}

        def checked(step: Step) -> Step:
            if not isinstance(step, Create) or applied.get(step.name) != step.settings:
                return step
            for netns in {device.namespace for device in step.settings.devices(step.name)} - made:
                try:
                    self._host.namespace_identity(netns)
                except KernelError as error:
                    return replace(step, waits=str(error))
            return step

        return replace(found, steps=tuple(map(checked, found.steps)))

    def _at_runtime(self, configuration: Configuration) -> Iterator[tuple[str, str]]:
        """Yield the namespace and the name of each device that was created at runtime and stays so."""
        wanted = configuration.settings_by_name()
        for clone in self._registry:
            if clone.origin == "runtime" and clone.name not in wanted:
                for ifnet in clone.ifnets:
                    yield namespace_name(ifnet.place.netns), ifnet.device

    def _namespace_problems(
        self, found: Plan, wanted: Configuration, at_runtime: set[tuple[str, str]]
    ) -> list[str]:
        """Return a message for each namespace that does not exist or cannot be removed.

        It opens the namespaces, in another thread: some thousand take a second."""
        problems = []
        created, removed = set(found.namespaces_created), set(found.namespaces_removed)
        # A change in place does not need the name: the device is in its namespace already.
        stepped = {step.name for step in found.possible.steps if not isinstance(step, Change)}
        for each in wanted.interfaces:
            name = str(each.location[1])
            if name in stepped and each.namespace and each.namespace not in created:
                try:
                    self._host.namespace_identity(each.namespace)
                except KernelError as error:
                    problems.append(f"{dotted((*each.location, 'netns'))}: {error}")
        devices = {(each.namespace, each.device) for each in wanted.interfaces}
        for netns, device in sorted(devices | at_runtime):
            if netns in removed:
                problems.append(f"namespaces.create: {netns} cannot be removed, {device} is in it")
        return problems

    async def _apply(self, found: Plan, wanted: Configuration) -> None:
        applying = Applying(
            found.possible,
            wanted,
            registry=self._registry,
            namespaces=self._namespaces,
            reconfigure=self._reconfigure,
            shrink=self._shrink,
            current=self._in_force.current,
        )
        try:
            async with self._moving(wanted):
                await applying.apply()
        except ListenError as error:
            raise Refused(errno.EADDRNOTAVAIL, str(error)) from error
        except FAILURES as error:
            code = errno.EIO if isinstance(error, WorkerLost) else error.errno
            exceptions = f" except: {'; '.join(applying.left)}" if applying.left else ""
            raise Refused(code, f"{error}; everything is as it was before{exceptions}") from error
        self._in_force.applied(wanted)


def _encoded(text: str) -> bytes:
    """Return the bytes of a file that a client has sent as text, those that are not UTF-8 as surrogates.

    Other surrogates are no bytes of a file; what they become is refused because it is not UTF-8."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _text(path: Path) -> bytes:
    """Return the bytes of the file. Raises Refused."""
    with _refusing():
        return content(path)


def _read(path: Path, text: bytes | None = None) -> ConfigurationFile:
    """Return the configuration in the file, or in the ``text`` that it was found to have. Raises Refused."""
    found = _text(path) if text is None else text
    with _refusing():
        return ConfigurationFile(decode(found, path), digest(found))


def _log(done: tuple[Action, ...]) -> None:
    """Log a plan."""
    for verb, line in lines(done):
        if verb is not None:
            log.info("%s", line)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Raise the errors in a file as Refused."""
    try:
        yield
    except InvalidConfiguration as error:
        raise Refused(errno.EINVAL, "; ".join(error.problems), error.problems) from error
