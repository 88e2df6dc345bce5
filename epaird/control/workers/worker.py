"""Workers: started, asked, replaced when their processes die, and renewed while they run.

A :class:`Worker` is a number that lasts as long as the daemon; its process may be another one tomorrow.
The descriptors of its cables are kept here, so that a successor can be given them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from epaird.control.readings import WorkerReading
from epaird.control.tasks import spawn, whole
from epaird.control.workers.link import Attachment, Link, WorkerLost, WorkerRefused
from epaird.control.workers.processes import Launched, Spares, launch
from epaird.ipc.counters import CPU_NS, DRAIN_LIST, HEARTBEAT_NS, QUEUE_FRAMES, WORKER_OACTIVE
from epaird.ipc.ledger import Table
from epaird.ipc.messages import Gone, Message, Overflow, Start, UnknownFamily

__all__ = ["Attachment", "Worker", "WorkerLost", "WorkerRefused"]

log = logging.getLogger(__name__)

ALIVE_S: Final = 1.0
"""A worker whose own loop has not turned for so long is not alive: two beats of its heart."""
BACKOFF_S: Final = (0.0, 0.1, 0.5, 2.0, 5.0)
"""Pauses before the first, second, ... replacement of a process that does not stay."""
STAYED_S: Final = 10.0
"""A process that ran this long counts as having stayed."""
STARTING_S: Final = 5.0
"""How long a new process may take until it takes orders; then it is killed.  The next may take twice as long:
the machine may be that busy."""
SPARE_STARTING_S: Final = 1.0
"""How long one may take that waited for this: it has nothing to prepare."""
ENDING_S: Final = 2.0
"""How long a process may take to end once it is told to; then it is killed."""
HANDING_OVER_S: Final = 5.0
"""How long a cable that goes from one process to the next may wait for a receiver that takes nothing."""


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
        gone: Callable[[str, str], None],
        lost: Callable[[Worker], Awaitable[None]],
        told: Callable[[Worker, Overflow | UnknownFamily], None] | None = None,
        changed: Callable[[], None] | None = None,
        spares: Spares | None = None,
        directory: Path | None = None,
        orphan_timeout: float = 0,
    ) -> None:
        """``gone(cable, interface)`` is called when a device has vanished under the worker, ``lost``
        when its process has died, before another takes over, ``told`` with what it has to tell besides,
        and ``changed`` when it has another process.

        A process is taken from ``spares``, if there are any.  It outlives the control plane by up to
        ``orphan_timeout`` seconds, listening in ``directory``, if there is one."""
        self.number = number
        self.restarts = 0
        self.attachments: dict[str, Attachment] = {}
        self.pid: int | None = None
        self.slot = slot
        """Of the ledger."""
        self._table = table
        self._words = table.slot(slot)
        self._settings = Start(number, slot, queue_limit, poll_spin_us, orphan_timeout)
        self._gone = gone
        self._lost = lost
        self._told = told
        self._changed = changed or (lambda: None)
        self._spares = spares
        self._directory = directory
        self._link: Link | None = None
        """To its process; while it is renewed, to the one that goes."""
        self._next: Link | None = None
        """To the one that comes."""
        self._handed_over: dict[str, asyncio.Future[None]] = {}
        """Cables that the process that comes has, or that are on their way to it."""
        self._running = asyncio.Event()
        self._replacing: asyncio.Task[None] | None = None
        self._stopping = False
        self._failures = 0
        self._started_at = 0.0
        self._cpu_ns = 0

    @property
    def forwards(self) -> bool:
        """Whether it has a process that takes orders."""
        return self._link is not None and self._running.is_set()

    async def start(self) -> None:
        """Start the process, and wait until it takes orders; raises WorkerLost when it does not."""
        launched = await self._launch()
        link = self._link = self._linked(launched)
        self.pid = link.pid
        self._started_at = time.monotonic()
        await self._begin(link, self._settings, self._patience(launched))
        # The process is told of every cable there is now, and attach() tells it of those to come.
        self._running.set()
        self._changed()
        answers = {each.cable: link.attach(each) for each in self.attachments.values()}
        await asyncio.gather(*answers.values(), return_exceptions=True)
        for cable, answer in answers.items():
            error = answer.exception()
            if isinstance(error, WorkerRefused):
                del self.attachments[cable]
                log.error("worker %d: %s is not forwarded any more: %s", self.number, cable, error)

    def adopt(self, launched: Launched, path: Path) -> Link:
        """Take over the process of a predecessor, which listens at ``path``; ``attachments`` are what it
        forwards already."""
        link = self._link = self._linked(launched)
        link.adopted(path)
        self.pid = link.pid
        self._started_at = time.monotonic()
        self._running.set()
        return link

    async def renew(self, slot: int) -> None:
        """Replace the process by another, without a frame lost: each cable is let go by the one, and is the
        other's a moment later.  ``slot`` of the ledger is the other's; the present one is free then.

        Raises WorkerLost when there is no other process; then everything is as it was."""
        going = self._link
        if going is None or not self.forwards:
            raise WorkerLost(f"worker {self.number} is not running")
        launched = await self._launch()
        coming = self._linked(launched)
        if going is not self._link or not self.forwards:
            # It has died meanwhile, and has or will have a successor that is not this one.
            _kill(coming)
            await coming.gone(ENDING_S)
            raise WorkerLost(f"worker {self.number} died while it was renewed")
        words = self._table.slot(slot)
        words[CPU_NS] = self._words[CPU_NS]
        settings = replace(self._settings, slot=slot)
        self._next = coming
        try:
            await self._begin(coming, settings, self._patience(launched))
        except WorkerLost:
            self._next = None
            raise
        self._started_at = time.monotonic()
        while left := [cable for cable in self.attachments if cable not in self._handed_over]:
            await asyncio.gather(*(self._hand_over(going, coming, cable) for cable in left))
            if self._next is None:
                raise WorkerLost(f"worker {self.number} died while it was renewed")
        self._link, self._next, self.pid = coming, None, coming.pid
        self._handed_over.clear()
        self.slot, self._words, self._settings = slot, words, replace(self._settings, slot=slot)
        self._changed()
        going.abandon()
        going.tell_to_end()
        await going.gone(ENDING_S)

    async def attach(self, attachment: Attachment) -> None:
        """Have a cable forwarded, by this process or by its successor.

        Raises WorkerRefused when it cannot be, and WorkerLost when there will be no successor."""
        self.attachments[attachment.cable] = attachment
        try:
            await self._attach(attachment)
        except WorkerLost:
            await self._running.wait()
            if self._stopping:
                self.attachments.pop(attachment.cable, None)
                raise
        except WorkerRefused:
            self.attachments.pop(attachment.cable, None)
            raise

    async def resize(self, cable: str, mtus: tuple[int, ...]) -> None:
        """Tell the worker of new MTUs, in bytes; a successor learns them with the cable."""
        attachment = self.attachments.get(cable)
        if attachment is not None:
            self.attachments[cable] = replace(attachment, spec=attachment.spec.resized(mtus))
            with contextlib.suppress(WorkerLost):
                await (await self._holder(cable)).resize(cable, mtus)

    async def detach(self, cable: str, patience: float, *, keep: bool = False) -> None:
        """Have a cable let go: returns once no frame of it is in flight and nothing refers to it.

        With ``keep`` the process has its descriptors still, lest they go with the control plane, until it is
        attached again or dropped."""
        if cable not in self.attachments:
            return
        try:
            try:
                # Only then off the list: what is between two processes is let go by the one where it arrives.
                link = await self._holder(cable)
            finally:
                known = self.attachments.pop(cable, None)
            if known is not None:
                await (link.keep(cable, patience) if keep else link.detach(cable, patience))
        except WorkerLost:
            log.debug("worker %d ended while it let %s go", self.number, cable)
        self._handed_over.pop(cable, None)

    async def drop(self, cable: str, patience: float) -> None:
        """Have the process let go of a cable that nobody knows of, or of what it keeps of one."""
        for link in (self._link, self._next):
            if link is not None and link.running:
                with contextlib.suppress(WorkerLost, WorkerRefused):
                    await link.detach(cable, patience)

    async def tune(self, *, queue_limit: int, poll_spin_us: int, orphan_timeout: float) -> None:
        """Have it work by other settings: frames, microseconds and seconds; so will its successors."""
        self._settings = replace(
            self._settings,
            queue_limit=queue_limit,
            poll_spin_us=poll_spin_us,
            orphan_timeout=orphan_timeout,
        )
        await self.bring_up_to_date()

    async def bring_up_to_date(self) -> None:
        """Have the process work by the settings as they are, whatever it was started with."""
        settings = self._settings
        for link in (self._link, self._next):
            if link is not None and link.running:
                with contextlib.suppress(WorkerLost):
                    await link.tune(settings.queue_limit, settings.poll_spin_us, settings.orphan_timeout)

    def ask(self) -> None:
        """Ask the process for a beat of its heart."""
        if self._link is not None:
            self._link.ping()

    def kill(self) -> None:
        """Kill the process, which does nothing any more; another takes over."""
        if self._link is not None:
            _kill(self._link)

    async def stop(self) -> None:
        """End the process; nothing is asked of it any more."""
        await self._stop_replacing()
        links = [link for link in (self._link, self._next) if link is not None]
        for link in links:
            link.tell_to_end()
        self._abandon()
        self._running.set()  # for those who wait for a successor: there will be none
        for link in links:
            await link.gone(ENDING_S)

    async def leave(self) -> None:
        """Let the process go on, an orphan; nothing is asked of it any more."""
        await self._stop_replacing()
        for link in (self._link, self._next):
            if link is not None:
                link.leave()
        self._abandon()
        self._running.set()

    def reading(self) -> WorkerReading:
        """What the worker's slot of the ledger says now."""
        words = self._words
        # The last moments of a process that is renewed are counted nowhere.
        self._cpu_ns = max(self._cpu_ns, words[CPU_NS])
        return WorkerReading(
            worker=str(self.number),
            queue_frames=words[QUEUE_FRAMES],
            queue_limit=self._settings.queue_limit,
            drain_list=words[DRAIN_LIST],
            oactive=bool(words[WORKER_OACTIVE]),
            restarts=self.restarts,
            cpu_seconds=self._cpu_ns / 1e9,
            alive=time.monotonic_ns() - self.beat_ns < ALIVE_S * 1e9,
        )

    @property
    def beat_ns(self) -> int:
        """CLOCK_MONOTONIC, in nanoseconds, when its own loop last turned."""
        return self._words[HEARTBEAT_NS]

    @property
    def life(self) -> tuple[int, ...]:
        """``beat_ns``, and what else changes only while its loop does something."""
        words = self._words
        return words[HEARTBEAT_NS], words[QUEUE_FRAMES], words[DRAIN_LIST]

    async def _launch(self) -> Launched:
        try:
            return await whole(self._spares.take() if self._spares is not None else launch())
        except OSError as error:
            raise WorkerLost(f"worker {self.number} cannot be started: {error}") from error

    def _linked(self, launched: Launched) -> Link:
        return Link(f"worker {self.number}", launched, self._heard, self._ended)

    def _patience(self, launched: Launched) -> float:
        if launched.waited:
            return SPARE_STARTING_S
        return STARTING_S * (1 << min(max(0, self._failures - 1), len(BACKOFF_S)))

    async def _begin(self, link: Link, settings: Start, patience_s: float) -> None:
        try:
            async with asyncio.timeout(patience_s):
                await link.begin(settings, self._table.fd, self._directory)
        except TimeoutError:
            _kill(link)
            await link.gone(ENDING_S)
            raise WorkerLost(
                f"worker {self.number} (pid {link.pid}) took no orders within {patience_s:g} s and was killed"
            ) from None
        except WorkerLost:
            how = await link.gone(ENDING_S)
            raise WorkerLost(f"worker {self.number} ended before it took orders: {how}") from None

    def _attach(self, each: Attachment) -> asyncio.Future[None]:
        link = self._next if self._next is not None and self._next.running else self._link
        if link is None or not self.forwards:
            return self._nobody()
        if link is self._next:
            self._handed_over[each.cable] = _done()
        return link.attach(each)

    async def _holder(self, cable: str) -> Link:
        """Who has a cable, once it is not between two processes.  Raises WorkerLost."""
        if cable in self._handed_over:
            await asyncio.shield(self._handed_over[cable])
        link = self._next if cable in self._handed_over else self._link
        if link is None or not self.forwards:
            raise WorkerLost(f"worker {self.number} is not running")
        return link

    async def _hand_over(self, going: Link, coming: Link, cable: str) -> None:
        """From one process to the other; while it is nobody's its frames wait in the kernel's ring."""
        done = self._handed_over[cable] = asyncio.get_running_loop().create_future()
        try:
            await going.keep(cable, HANDING_OVER_S)
            if cable in self.attachments:
                await coming.attach(self.attachments[cable])
            await going.detach(cable, HANDING_OVER_S)
        except WorkerLost:
            pass  # whoever it was: _ended() sees to it
        except WorkerRefused as error:
            self.attachments.pop(cable, None)
            log.error("worker %d: %s is not forwarded any more: %s", self.number, cable, error)
        finally:
            done.set_result(None)

    def _nobody(self) -> asyncio.Future[None]:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        answer.set_exception(WorkerLost(f"worker {self.number} is not running"))
        return answer

    def _heard(self, message: Message) -> None:
        match message:
            case Gone():
                self._gone(message.cable, message.name)
            case Overflow() | UnknownFamily():
                if self._told is not None:
                    self._told(self, message)
            case _:
                raise ValueError(f"not an answer: {message}")

    def _abandon(self) -> None:
        """There is nobody to send orders to, or to answer those that were sent."""
        for link in (self._link, self._next):
            if link is not None:
                link.abandon()
        self._running.clear()

    def _ended(self, link: Link) -> None:
        if not link.running:
            link.abandon()  # one that never ran is its starter's to deal with
        elif link in (self._link, self._next) and not self._stopping:
            # If it was one of two, the ledger cannot tell what was whose: both go.
            links = [each for each in (self._link, self._next) if each is not None]
            self._abandon()
            self._next = None
            self._handed_over.clear()
            self._replacing = spawn(self._replace(links), f"replacing worker {self.number}")

    async def _replace(self, links: list[Link]) -> None:
        """Have a successor take over, however many it takes."""
        for link in links[1:]:
            _kill(link)
            await link.gone(ENDING_S)
        how = await links[0].gone(ENDING_S)
        log.warning("worker %d (pid %d) ended: %s; starting another", self.number, links[0].pid, how)
        try:
            await self._lost(self)
        except Exception:
            log.exception("settling worker %d failed, which is a bug of ours", self.number)
        if time.monotonic() - self._started_at > STAYED_S:
            self._failures = 0
        while True:
            await asyncio.sleep(BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)])
            self._failures += 1
            self.restarts += 1
            try:
                await self.start()
            except WorkerLost as error:
                log.warning("%s; starting another", error)
            else:
                break
        log.info("worker %d forwards %d cables again (pid %d)", self.number, len(self.attachments), self.pid)
        if self._spares is not None:
            self._spares.keep()

    async def _stop_replacing(self) -> None:
        self._stopping = True
        if self._replacing is not None:
            self._replacing.cancel()
            await asyncio.wait((self._replacing,))


def _kill(link: Link) -> None:
    with contextlib.suppress(ProcessLookupError):
        link.process.kill()


def _done() -> asyncio.Future[None]:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done.set_result(None)
    return done
