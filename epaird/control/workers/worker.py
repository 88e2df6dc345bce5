"""Workers: started, given cables, replaced when their processes die, and renewed while they forward.

A :class:`Worker` lasts; its processes come and go (:mod:`epaird.control.workers.states`). It keeps the
descriptors of its cables, so that a replacement can be given them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from pathlib import Path

from epaird.control.readings import WorkerReading
from epaird.control.workers import starting
from epaird.control.workers.attachment import Attachment, WorkerLost, WorkerRefused
from epaird.control.workers.impairing import Impairing
from epaird.control.workers.link import Link
from epaird.control.workers.processes import Launched, Spares
from epaird.control.workers.readers import Readers
from epaird.control.workers.renewal import Renewal
from epaird.control.workers.replacing import Replacing
from epaird.control.workers.starting import Starter
from epaird.control.workers.states import ENDED, FORWARDING, SETTLED, WorkerState, advance
from epaird.control.workers.workerslot import WorkerSlot
from epaird.ipc.ledger import Table
from epaird.ipc.messages import CableSpec, Drained, Gone, Message, Overflow, Start, UnknownFamily

__all__ = ["Attachment", "Worker", "WorkerLost", "WorkerRefused"]

log = logging.getLogger(__name__)


class Worker:
    """One of the daemon's workers."""

    def __init__(
        self,
        number: int,
        table: Table,
        slot: int,
        *,
        queue_limit: int,
        poll_spin_us: int,
        device_gone: Callable[[str, str], None],
        died: Callable[[Worker], Awaitable[None]],
        notify: Callable[[Worker, Drained | Overflow | UnknownFamily], None] | None = None,
        changed: Callable[[], None] | None = None,
        spares: Spares | None = None,
        directory: Path | None = None,
        orphan_timeout: float = 0,
        readers: Readers | None = None,
    ) -> None:
        """``device_gone(cable, interface)`` is called when a device has vanished, ``died`` when the process
        has died and before a replacement is started, ``notify`` with other messages of the process, and
        ``changed`` when there is another process.

        A process is taken from ``spares`` where there are any. It outlives the control plane by up to
        ``orphan_timeout`` seconds and listens in ``directory``. ``readers`` are those of all queues."""
        self.number = number
        self.restarts = 0
        """Number of replacements."""
        self.attachments: dict[str, Attachment] = {}
        """Cables by name."""
        self._name = f"worker {number}"
        self._slot = WorkerSlot(table, slot)
        self._settings = Start(number, slot, queue_limit, poll_spin_us, orphan_timeout)
        self._device_gone = device_gone
        self._died = died
        self._notify = notify
        self._changed = changed or (lambda: None)
        self._readers = readers if readers is not None else Readers()
        self._starter = Starter(self._name, table, spares, directory)
        self._replacing = Replacing(
            self._name, self._starter, settle=self._settle_death, start=self._start_again
        )
        self.impairing = Impairing(self.attachments, self.holder)
        """Changes of the impairment of its cables."""
        self.state = WorkerState.DEAD
        self._settled = asyncio.Event()
        """Set in a state of SETTLED."""
        self._link: Link | None = None
        """Link to the process, or to the last one; while it is renewed, to the old one."""
        self._given_up = False
        """True once every process was killed for good."""
        self._renewal: Renewal | None = None
        """Set while the worker is renewed, and after its death until both processes have ended."""

    @property
    def slot(self) -> int:
        """Number of the worker's slot in the ledger."""
        return self._slot.number

    @property
    def forwards(self) -> bool:
        """True while it has a process that takes requests."""
        return self.state in FORWARDING

    @property
    def pid(self) -> int | None:
        """Process id of its process, or of the last one; None when there was none."""
        return self._link.pid if self._link is not None else None

    @property
    def adopted(self) -> bool:
        """True while its process is one that a predecessor started."""
        return self._link is not None and self._link.examination is not None

    async def other_version(self) -> str:
        """Return the version of its process as :meth:`Link.other_version`. Raises OSError."""
        return await self._link.other_version() if self._link is not None else ""

    async def start(self, attempts: int = 1) -> None:
        """Start a process, unless one is on its way already, and wait until it is ready.

        Raises WorkerLost when ``attempts`` processes did not become ready, or the worker is stopped."""
        while not self.forwards:
            if self._replacing.under_way:
                # A second process beside the replacement would forward everything twice.
                await self._settled.wait()
                if self.state is WorkerState.STOPPED:
                    raise self._not_running()
                continue
            attempts -= 1
            try:
                await self._start()
            except WorkerLost as error:
                if attempts <= 0 or self.state is not WorkerState.DEAD:
                    raise
                log.warning("%s; starting another", error)

    def adopt(
        self, launched: Launched, path: Path, cables: Collection[CableSpec], *, lines: bool = False
    ) -> Link:
        """Take over a predecessor's process, which listens at ``path`` and was given ``cables``.

        ``attachments`` are to be those of them that it forwards for this worker: no others. If it dies, its
        replacement is given these, and no other process may read them then."""
        self._enter(WorkerState.READY)
        link = self._link = self._link_to(launched)
        link.adopt(path, cables, lines=lines)
        return link

    async def renew(self, slot: int) -> None:
        """Replace the process by another one without losing a frame.

        ``slot`` of the ledger is the new process's; the present one is free afterwards. Raises WorkerLost
        when the worker is not ready, dies or is stopped before the end, or when the new process does not
        become ready; then the worker keeps its slot."""
        old = self._link
        if old is None or self.state is not WorkerState.READY:
            raise WorkerLost(f"{self._name} cannot be renewed: it is {self.state.value}")
        launched = await self._starter.launch()
        new = self._link_to(launched)
        if old is not self._link or self.state is not WorkerState.READY:
            await new.terminate()
            raise WorkerLost(f"{self._name} died while it was renewed")
        renewal = self._renewal = Renewal(self._name, old, new, slot, self.attachments)
        self._enter(WorkerState.RENEWING)
        self._slot.prepare(slot)
        await self._begin_renewal(renewal, replace(self._settings, slot=slot), spare=launched.spare)
        await renewal.move_all()
        self._link, self._renewal = new, None
        self._slot.move(slot)
        self._settings = replace(self._settings, slot=slot)
        self._enter(WorkerState.READY)
        self._changed()
        await renewal.end_old(starting.ENDING_S)

    async def attach(self, attachment: Attachment) -> None:
        """Forward a cable, by this process or its replacement.

        Raises WorkerRefused when the process cannot, and WorkerLost when the worker is stopped."""
        self.attachments[attachment.cable] = attachment
        try:
            if self.state is WorkerState.DRAINING and self._renewal is not None:
                self._renewal.add(attachment.cable)
            await self._link_of(attachment.cable).attach(attachment)
        except WorkerLost:
            await self._settled.wait()
            if self.state is WorkerState.STOPPED:
                self.attachments.pop(attachment.cable, None)
                raise
        except WorkerRefused:
            self.attachments.pop(attachment.cable, None)
            raise

    async def resize(self, cable: str, mtus: tuple[int, ...]) -> None:
        """Apply new MTUs, in bytes, to a cable; a replacement is given them with the cable."""
        attachment = self.attachments.get(cable)
        if attachment is not None:
            self.attachments[cable] = replace(attachment, spec=attachment.spec.resized(mtus))
            with contextlib.suppress(WorkerLost):
                await (await self.holder(cable)).resize(cable, mtus)

    async def detach(self, cable: str, patience: float, *, keep: bool = False) -> None:
        """Detach a cable; return once no frame of it is in flight and no process reads it.

        After ``patience`` seconds frames that the receiver does not take are dropped and counted. With
        ``keep`` the process keeps the cable's descriptors until it is attached again or dropped, so that a
        control plane that is killed in between does not take the devices with it."""
        if cable not in self.attachments:
            return
        try:
            try:
                # It stays on the list until here: a cable that moves is detached by the process where it
                # arrives.
                link = await self.holder(cable)
            finally:
                known = self.attachments.pop(cable, None)
                if self._renewal is not None:
                    self._renewal.discard(cable)
            if known is not None:
                await (link.keep(cable, patience) if keep else link.detach(cable, patience))
        except WorkerLost:
            log.debug("%s ended while it detached %s", self._name, cable)

    async def drop(self, cable: str, patience: float) -> None:
        """Have every process close what it keeps of a cable that is not among the attachments."""
        for link in self._links():
            with contextlib.suppress(WorkerLost, WorkerRefused):
                await link.detach(cable, patience)

    async def tune(self, *, queue_limit: int, poll_spin_us: int, orphan_timeout: float) -> None:
        """Apply other settings, in frames, microseconds and seconds, to this process and its replacements."""
        frames_and_us = {"queue_limit": queue_limit, "poll_spin_us": poll_spin_us}
        self._settings = replace(self._settings, **frames_and_us, orphan_timeout=orphan_timeout)
        await self.apply_settings()

    async def apply_settings(self) -> None:
        """Apply the current settings to the process, which may have been started with others."""
        for link in self._links():
            with contextlib.suppress(WorkerLost):
                await self._tune(link)

    def hidden(self) -> list[Link]:
        """Return the links to the processes that the next control plane would not find."""
        return [link for link in self._links() if not link.can_be_found]

    def ping(self) -> None:
        """Request a heartbeat of the process."""
        if self._link is not None:
            self._link.ping()

    def kill(self) -> None:
        """Kill the process; a replacement follows."""
        if self._link is not None:
            self._link.kill()

    def kill_all(self) -> None:
        """Kill every process of the worker, in any thread; none is replaced."""
        self._given_up = True
        for link in self._links():
            link.kill()

    async def stop(self) -> None:
        """End the process for good."""
        self._enter(WorkerState.STOPPED)
        await self._replacing.stop()
        links = self._links()
        for link in links:
            link.request_end()
            link.abandon()
        for link in links:
            await link.wait(starting.ENDING_S)

    async def leave(self) -> None:
        """Leave the process as an orphan."""
        self._enter(WorkerState.STOPPED)
        await self._replacing.stop()
        for link in self._links():
            link.leave()

    def reading(self) -> WorkerReading:
        """Return the worker's present state, from its slot of the ledger."""
        limit = self._settings.queue_limit
        return self._slot.reading(self.number, queue_limit=limit, restarts=self.restarts)

    @property
    def links(self) -> dict[Link, int]:
        """Links to its processes, the old one first, each with the number of cables that the process has."""
        found = dict.fromkeys(self._links() if self.state not in ENDED else (), 0)
        for cable in self.attachments if self.forwards else ():
            found[self._link_of(cable)] += 1
        return found

    @property
    def activity(self) -> tuple[int, ...]:
        """The process's activity, as :attr:`WorkerSlot.activity`."""
        return self._slot.activity

    def _enter(self, state: WorkerState) -> None:
        self.state = advance(self.state, state)
        if state in SETTLED:
            self._settled.set()
        else:
            self._settled.clear()

    async def _start(self) -> None:
        self._enter(WorkerState.SPAWNING)
        try:
            launched = await self._starter.launch()
            # Known to stop() from now on, also when this task is cancelled.
            link = self._link = self._link_to(launched)
            settings = self._settings
            await self._starter.begin(link, settings, spare=launched.spare)
        except WorkerLost:
            if self.state is WorkerState.SPAWNING:
                self._enter(WorkerState.DEAD)
            raise
        if self.state is not WorkerState.SPAWNING:
            await link.terminate()
            raise self._not_running()
        # The process is given every cable that is attached now; attach() gives it those to come.
        self._enter(WorkerState.READY)
        self._changed()
        answers = {each.cable: link.attach(each) for each in self.attachments.values()}
        tuned = [self._tune(link)] if self._settings != settings else []
        await asyncio.gather(*answers.values(), *tuned, return_exceptions=True)
        for cable, answer in answers.items():
            error = answer.exception()
            if isinstance(error, WorkerRefused):
                self.attachments.pop(cable, None)
                log.error("%s: %s is not forwarded any more: %s", self._name, cable, error)

    async def _begin_renewal(self, renewal: Renewal, settings: Start, *, spare: bool) -> None:
        """Wait until the new process is ready. Raises WorkerLost."""
        before = self._settings
        try:
            await self._starter.begin(renewal.new, settings, spare=spare)
        except WorkerLost:
            if self._renewal is renewal and self.state is WorkerState.RENEWING:
                self._renewal = None
                self._enter(WorkerState.READY)
            raise
        if self._renewal is not renewal or self.state is not WorkerState.RENEWING:
            raise WorkerLost(f"{self._name} died while it was renewed")
        self._enter(WorkerState.DRAINING)
        if self._settings != before:
            with contextlib.suppress(WorkerLost):
                await self._tune(renewal.new)

    def _link_to(self, launched: Launched) -> Link:
        link = Link(self._name, launched, self._on_message, self._on_end, self._readers)
        if self._given_up:
            link.kill()
        return link

    def _links(self) -> list[Link]:
        """Return the links to all processes, the old one first."""
        links = [self._link] if self._link is not None else []
        return links if self._renewal is None else [*links, self._renewal.new]

    def _tune(self, link: Link) -> asyncio.Future[None]:
        return link.tune(self._settings)

    async def holder(self, cable: str) -> Link:
        """Return the link to the process that has a cable, once it does not move. Raises WorkerLost."""
        while self._renewal is not None and (arrival := self._renewal.arrival(cable)) is not None:
            await asyncio.shield(arrival)
        return self._link_of(cable)

    def _link_of(self, cable: str) -> Link:
        """Return the link to the process that has a cable. Raises WorkerLost."""
        if not self.forwards or self._link is None:
            raise self._not_running()
        renewal = self._renewal
        return renewal.new if renewal is not None and renewal.moved(cable) else self._link

    def _not_running(self) -> WorkerLost:
        return WorkerLost(f"{self._name} is not running")

    def _on_message(self, message: Message) -> None:
        if isinstance(message, Gone):
            self._device_gone(message.cable, message.name)
        elif isinstance(message, Drained | Overflow | UnknownFamily) and self._notify is not None:
            self._notify(self, message)

    def _on_end(self, link: Link) -> None:
        """Handle the end of a process: start a replacement when it was ready and not about to end."""
        died = link.running and link in self._links() and self.forwards and not self._given_up
        link.abandon()
        if died:
            for each in self._links():
                each.abandon()
            self._enter(WorkerState.DEAD)
            self._replacing.begin(self._links())

    async def _settle_death(self) -> None:
        """Settle the account of the processes, which have ended."""
        self._renewal = None
        await self._died(self)

    async def _start_again(self) -> None:
        """Start a replacement. Raises WorkerLost."""
        self.restarts += 1
        await self._start()
        log.info("%s forwards %d cables again (pid %d)", self._name, len(self.attachments), self.pid)
