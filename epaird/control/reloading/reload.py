"""The configuration read again: planned, shown and applied, while everything else goes on.

What is wrong with a file is told before anything is touched, all of it at once.  A reload starts from what
there is, not from the file that was read before: what was lost is made again, what somebody has set is as
the file says again, and what was made at runtime is left alone unless the file has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from epaird.config import saving
from epaird.config.reading import File, InvalidConfiguration, decode, digest, parse, quoted_path, read
from epaird.config.settings import Configuration, namespace_name
from epaird.config.values import dotted
from epaird.control.http.listening import ListenError
from epaird.control.interfaces.registry import Interfaces
from epaird.control.machine.host import Host
from epaird.control.machine.namespaces import Namespaces
from epaird.control.operations import Refused
from epaird.control.readings import ConfigurationReading
from epaird.control.reloading.applying import Applying
from epaird.control.reloading.current import Present, everything, missing, present
from epaird.control.tasks import whole
from epaird.control.workers.worker import WorkerLost, WorkerRefused
from epaird.kernel.errors import KernelError
from epaird.plan.actions import Action, lines, summary
from epaird.plan.diff import InterfaceSettings, Plan, actions, interfaces, plan
from epaird.plan.merge import kept

log = logging.getLogger(__name__)

FAILURES: Final = (KernelError, WorkerLost, WorkerRefused, Refused)
"""What can be in the way of a plan."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the configuration is from."""

    path: Path
    """Absolute."""
    sha256: str
    """Of the file as it was read."""


class Reloads:
    """The file, and what was made of it."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        source: Source | None,
        host: Host,
        interfaces: Interfaces,
        namespaces: Namespaces,
        go_by: Callable[[Configuration], Awaitable[None]],
        shrink: Callable[[Configuration], Awaitable[None]],
        lacking: Callable[[Configuration], list[str]],
        moving: Callable[[Configuration], AbstractAsyncContextManager[None]],
        begun: Callable[[], None] = lambda: None,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        """``configuration`` was read from ``source`` and is in force.

        ``go_by`` has the daemon itself go by a configuration and have as many workers at least, ``shrink``
        ends those that are too many; ``lacking`` says what the machine lacks for one.  ``moving`` has what
        the daemon serves served where a configuration says, once its block has ended well; it raises
        ListenError before.  ``begun`` and ``ended`` are called around a reload."""
        self.force = configuration
        self._path = source.path if source is not None else None
        self._host = host
        self._interfaces = interfaces
        self._namespaces = namespaces
        self._go_by = go_by
        self._shrink = shrink
        self._lacking = lacking
        self._moving = moving
        self._begun = begun
        self._ended = ended
        self._tried = source.sha256 if source is not None else ""
        """The file that was read last, whatever came of it."""
        self._reading = ConfigurationReading(success_time=time.time(), sha256=self._tried)
        self._one_at_a_time = asyncio.Lock()

    def reading(self) -> ConfigurationReading:
        """How it went."""
        return self._reading

    async def reload(self, *, dry_run: bool = False) -> tuple[Action, ...]:
        """Read the file again and have everything as it says; what was done, or would be.

        Raises Refused with every problem, and then nothing has changed."""
        if self._path is None:
            raise Refused(errno.ENOENT, "the configuration was read from no file")
        async with self._one_at_a_time:
            if dry_run:
                file = await asyncio.to_thread(self._read, self._path)
                return actions(await self._plan(file.configuration))
            self._begun()
            try:
                # A caller who goes away leaves nothing half done.
                return await whole(self._reload(self._path))
            finally:
                self._ended()

    async def catch_up(self, said: Mapping[str, InterfaceSettings]) -> None:
        """Have everything that a predecessor left as the configuration says that is in force, but for what
        was changed at runtime where it says as before.  ``said`` is what it said of each interface then.

        What cannot be had is said, and stays as it was left."""
        async with self._one_at_a_time:
            force = self.force
            there = self._present(force)
            wanted = kept(there.configuration, there.peers, said, force)
            try:
                found = await self._plan(wanted, first=True)
                if not found.empty:
                    _tell(actions(found))
                    await self._apply(found, wanted)
            except Refused as refusal:
                for problem in refusal.problems or (str(refusal),):
                    log.error("%s", problem)
            self.force = force

    async def signalled(self) -> None:
        """Reload, for who waits for no answer: the log has it."""
        try:
            await self.reload()
        except Refused as refusal:
            log.debug("%s", refusal)

    async def file_changed(self) -> None:
        """Something has happened where the file is: reload if it is another one now."""
        if self._path is not None:
            try:
                sha256 = digest(await asyncio.to_thread(self._path.read_bytes))
            except OSError as error:  # it is being replaced, perhaps
                log.debug("%s: %s", self._path, error)
                return
            if sha256 != self._tried:
                log.info("%s has changed", quoted_path(self._path))
                await self.signalled()

    async def plan(self, text: str, name: str) -> tuple[Action, ...]:
        """What a reload of a file with this text would do.  Raises Refused with every problem."""
        async with self._one_at_a_time:
            with _refusing():
                content = text.encode("utf-8", "surrogateescape")
                configuration = await asyncio.to_thread(decode, content, name)
            return actions(await self._plan(configuration))

    def text(self) -> str:
        """The configuration that would make what there is.  Raises Refused when no file can say it."""
        found = everything(self._interfaces, self.force, self._namespaces.there)
        try:
            parse(found.model_dump())
        except InvalidConfiguration as error:
            problems = error.problems
            raise Refused(errno.EINVAL, "; ".join(problems), problems) from error
        return saving.text(found)

    async def _reload(self, path: Path) -> tuple[Action, ...]:
        try:
            # Beside the loop: a thousand pairs take some tenths of a second to read and to compare.
            file = await asyncio.to_thread(self._read, path)
            found = await self._plan(file.configuration)
            done = actions(found)
            _tell(done)
            await self._apply(found, file.configuration)
        except Refused as refusal:
            for problem in refusal.problems or (str(refusal),):
                log.error("not reloaded: %s", problem)
            self._failed()
            raise
        except Exception:
            log.exception("a reload failed, which is a bug of ours; what it had done is rolled back")
            self._failed()
            raise
        reading = self._reading
        self._reading = ConfigurationReading(
            True, time.time(), reading.successes + 1, reading.failures, file.sha256
        )
        log.info("reloaded %s: %s", quoted_path(path), summary(done))
        return done

    def _failed(self) -> None:
        self._reading = replace(self._reading, successful=False, failures=self._reading.failures + 1)

    def _read(self, path: Path) -> File:
        with contextlib.suppress(OSError):  # which is told below
            self._tried = digest(path.read_bytes())
        with _refusing():
            return read(path)

    async def _plan(self, configuration: Configuration, *, first: bool = False) -> Plan:
        """How to come to a configuration from here, ``first``: when none was applied before.

        Raises Refused when it cannot be."""
        there = self._present(configuration)
        try:
            lost = await missing(self._host, self._interfaces)
        except KernelError as error:
            raise Refused(error.errno, str(error)) from error
        found = await asyncio.to_thread(
            plan,
            there.configuration,
            configuration,
            peers=there.peers,
            missing=lost,
            lost=there.lost,
            adopted=there.runtime,
            said=None if first else self.force,
        )
        problems = [*self._lacking(configuration), *self._namespace_problems(found, configuration)]
        if problems:
            raise Refused(errno.EINVAL, "; ".join(problems), problems)
        return found

    def _present(self, configuration: Configuration) -> Present:
        # What a predecessor left goes, unless it is still lived in: then it does with the daemon.
        listed = self.force.namespaces.create
        stay = {netns for netns, _ in self._at_runtime(configuration)}
        there = [name for name in self._namespaces.there if name in listed or name not in stay]
        return present(self._interfaces, self.force, there, configuration)

    def _at_runtime(self, configuration: Configuration) -> Iterator[tuple[str, str]]:
        """The namespace and the name of each device that was made at run time, and is to stay so."""
        ours = interfaces(configuration)
        pairs = (each for each in self._interfaces.pairs if each.name not in ours)
        loopbacks = (each for each in self._interfaces.loopbacks if each.device not in ours)
        halves = (half for pair in pairs if pair.origin == "runtime" for half in pair.halves)
        for each in (*halves, *(each for each in loopbacks if each.origin == "runtime")):
            yield namespace_name(each.place.netns), each.device

    def _namespace_problems(self, found: Plan, wanted: Configuration) -> Iterator[str]:
        """Namespaces that are not there, and those that cannot go."""
        anew = {step.name for step in found.steps}
        for each in wanted.interfaces:
            name = str(each.location[1])
            if name in anew and each.namespace and each.namespace not in found.namespaces_made:
                try:
                    self._host.namespace_identity(each.namespace)
                except KernelError as error:
                    yield f"{dotted((*each.location, 'netns'))}: {error}"
        stay = {(each.namespace, each.device) for each in wanted.interfaces}
        stay |= set(self._at_runtime(wanted))
        for netns, device in sorted(stay):
            if netns in found.namespaces_removed:
                yield f"namespaces.create: {netns} cannot go, {device} lives in it"

    async def _apply(self, found: Plan, wanted: Configuration) -> None:
        applying = Applying(
            found,
            wanted,
            host=self._host,
            interfaces=self._interfaces,
            namespaces=self._namespaces,
            go_by=self._go_by,
            shrink=self._shrink,
            force=self.force,
        )
        try:
            async with self._moving(wanted):
                await applying.apply()
        except ListenError as error:
            raise Refused(errno.EADDRNOTAVAIL, str(error)) from error
        except FAILURES as error:
            code = error.errno if isinstance(error, KernelError | Refused) else errno.EIO
            raise Refused(code, f"{error}; everything is as it was before") from error
        # What only a restart applies is in force as it was.
        daemon = wanted.daemon.model_copy(update={"control_socket": self.force.daemon.control_socket})
        self.force = wanted.model_copy(update={"daemon": daemon})


def _tell(done: tuple[Action, ...]) -> None:
    """The plan, in the log."""
    for verb, line in lines(done):
        if verb is not None:
            log.info("%s", line)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """What is wrong with a file, as a refusal."""
    try:
        yield
    except InvalidConfiguration as error:
        raise Refused(errno.EINVAL, "; ".join(error.problems), error.problems) from error
