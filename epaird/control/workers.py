"""Worker processes: started, asked, and replaced when they die.

A :class:`Worker` is a number that lasts as long as the daemon; its process may be another one tomorrow.
The descriptors of its cables are kept here, so that a successor can be given them.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from epaird.channel import Channel
from epaird.control.readings import WorkerReading
from epaird.control.tasks import spawn
from epaird.ledger import CPU_NS, DRAIN_LIST, HEARTBEAT_NS, QUEUE_FRAMES, WORKER_OACTIVE, Table
from epaird.messages import Attach, Detach, Done, Gone, Message, Ready, Resize, Start

log = logging.getLogger(__name__)

ALIVE_S: Final = 1.0
"""A worker whose own loop has not turned for so long is not alive; it says so four times a second."""
BACKOFF_S: Final = (0.0, 0.1, 0.5, 2.0, 5.0)
"""Pauses before the first, second, ... replacement of a process that does not stay."""
STAYED_S: Final = 10.0
"""A process that ran this long counts as having stayed."""


class WorkerLost(Exception):
    """The process ended before it had answered."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A cable as its worker forwards it."""

    cable: str
    """Its name, unique in the worker."""
    names: tuple[str, str]
    """The interfaces' names."""
    fds: tuple[int, int]
    """Descriptors of half a and half b, kept open by the control plane."""
    slots: tuple[int, int]
    """Their slots of the ledger."""
    mtus: tuple[int, int]
    """Bytes."""
    coalesce: bool
    """Whether datagrams may be delivered joined."""


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
    ) -> None:
        """``gone(cable, interface)`` is called when a device has vanished under the worker, ``lost``
        when its process has died, before another takes over."""
        self.number = number
        self.restarts = 0
        self.attachments: dict[str, Attachment] = {}
        self.pid: int | None = None
        self._table = table
        self._slot = slot
        self._words = table.slot(slot)
        self._settings = Start(number, slot, queue_limit, poll_spin_us)
        self._gone = gone
        self._lost = lost
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Done]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._channel: Channel | None = None
        self._running = asyncio.Event()
        self._stopping = False
        self._failures = 0
        self._started_at = 0.0

    async def start(self) -> None:
        """Start the process, and wait until it takes orders; raises WorkerLost when it ends instead."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # A session of its own, so that a terminal's Ctrl-C reaches the control plane alone.
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-m", "epaird.dataplane", str(theirs.fileno()),
                pass_fds=(theirs.fileno(),), stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self.pid = self._process.pid
        self._started_at = time.monotonic()
        self._channel = Channel(ours, self._received, self._ended)
        ready: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self._answers[0] = ready
        self._channel.send(self._settings, (self._table.fd,))
        await ready
        await asyncio.gather(*(self._attach(each) for each in self.attachments.values()))
        self._running.set()

    async def attach(self, attachment: Attachment) -> None:
        """Have a cable forwarded, by this process or by its successor."""
        self.attachments[attachment.cable] = attachment
        try:
            await self._attach(attachment)
        except WorkerLost:
            await self._running.wait()

    async def resize(self, cable: str, mtus: tuple[int, int]) -> None:
        """Tell the worker of new MTUs, in bytes."""
        attachment = self.attachments[cable]
        self.attachments[cable] = replace(attachment, mtus=mtus)
        try:
            await self._ask(Resize(next(self._ids), cable, mtus))
        except WorkerLost:
            await self._running.wait()

    async def detach(self, cable: str, patience: float) -> None:
        """Have a cable let go: returns once no frame of it is in flight and nothing refers to it."""
        if self.attachments.pop(cable, None) is not None:
            try:
                await self._ask(Detach(next(self._ids), cable, patience))
            except WorkerLost:
                log.debug("worker %d ended while it let %s go", self.number, cable)

    async def stop(self) -> None:
        """End the process."""
        self._stopping = True
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            await self._process.wait()

    def reading(self) -> WorkerReading:
        """What the worker's slot of the ledger says now."""
        words = self._words
        return WorkerReading(
            worker=str(self.number),
            queue_frames=words[QUEUE_FRAMES],
            queue_limit=self._settings.queue_limit,
            drain_list=words[DRAIN_LIST],
            oactive=bool(words[WORKER_OACTIVE]),
            restarts=self.restarts,
            cpu_seconds=words[CPU_NS] / 1e9,
            alive=time.monotonic_ns() - words[HEARTBEAT_NS] < ALIVE_S * 1e9,
        )

    async def _attach(self, each: Attachment) -> None:
        order = Attach(next(self._ids), each.cable, each.names, each.slots, each.mtus, each.coalesce)
        await self._ask(order, each.fds)

    async def _ask(self, order: Attach | Resize | Detach, fds: tuple[int, ...] = ()) -> None:
        if self._channel is None:
            raise WorkerLost
        answer: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self._answers[order.id] = answer
        self._channel.send(order, fds)
        await answer

    def _received(self, message: Message, _fds: list[int]) -> None:
        match message:
            case Ready():
                self._answers.pop(0).set_result(Done(0))
            case Done():
                self._answers.pop(message.id).set_result(message)
            case Gone():
                self._gone(message.cable, message.name)
            case _:
                raise ValueError(f"not an answer: {message}")

    def _ended(self) -> None:
        self._channel = None
        self._running.clear()
        for answer in self._answers.values():
            answer.set_exception(WorkerLost())
        self._answers.clear()
        if not self._stopping:
            spawn(self._replace(), f"replacing worker {self.number}")

    async def _replace(self) -> None:
        process = self._process
        if process is None:
            raise RuntimeError("a worker that was never started has ended")
        code = await process.wait()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        ran_s = time.monotonic() - self._started_at
        self._failures = 0 if ran_s > STAYED_S else self._failures + 1
        pause = BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)]
        log.warning("worker %d (pid %d) ended: %s; starting another", self.number, process.pid, how)
        await self._lost(self)
        await asyncio.sleep(pause)
        self.restarts += 1
        try:
            await self.start()
        except WorkerLost:
            return  # _ended has arranged for the next
        log.info("worker %d forwards %d cables again (pid %d)", self.number, len(self.attachments), self.pid)
