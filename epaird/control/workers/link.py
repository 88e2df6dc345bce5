"""The link to one worker process: requests, their answers, and its end.

With the first message the process is given a socket that listens in the daemon's run directory, by which the
next control plane finds it when this one is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from epaird.control.machine.privatefiles import file_identity
from epaird.control.workers.attachment import Attachment, WorkerLost, WorkerRefused
from epaird.control.workers.claims import Claims
from epaird.control.workers.describing import Examination
from epaird.control.workers.holdings import Holdings
from epaird.control.workers.processes import Launched, kill, reap
from epaird.control.workers.readers import Readers
from epaird.control.workers.socketfile import listening_socket, socket_name
from epaird.ipc.channel import Channel
from epaird.ipc.encoding import InvalidMessage
from epaird.ipc.impairment import LineSpec
from epaird.ipc.messages import (
    Adopted,
    Amend,
    Attach,
    Attached,
    CableKind,
    CableSpec,
    Continue,
    Describe,
    Description,
    Detach,
    Done,
    End,
    Impair,
    Keep,
    Listen,
    Message,
    Pause,
    Ping,
    Ready,
    Resize,
    Start,
    Tune,
    Unknown,
)
from epaird.ipc.settlement import Correction
from epaird.ipc.validation import TEXT_MAX, validate
from epaird.kernel.printable import one_line

log = logging.getLogger(__name__)


class Link:
    """The control plane's side of one worker process.

    It is the only place where a process is requested to attach or detach a cable, and so the place that
    claims and releases queues (:mod:`epaird.control.workers.readers`)."""

    def __init__(
        self,
        name: str,
        launched: Launched,
        on_message: Callable[[Message], None],
        on_end: Callable[[Link], None],
        readers: Readers | None = None,
    ) -> None:
        """``name`` is the worker's, ``worker 0``; ``on_message`` is called with each message that is no
        answer, and ``on_end`` once, when the process has closed its end or is killed because of what it has
        sent. ``readers`` are those of all queues."""
        self.process = launched.process
        self.started_at = time.monotonic()
        """CLOCK_MONOTONIC in seconds when this link began."""
        self.running = False
        """True while the process takes requests."""
        self.description = launched.description
        """What the process has reported of itself; None when it has not, as one of 0.3.0 or older."""
        self._name = name
        self._on_message = on_message
        self._on_end = on_end
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[None]] = {}
        self._holdings = Holdings(self, readers if readers is not None else Readers())
        self._waiting: dict[str, int] = {}
        """Requests to attach a cable that another process may still read, by cable."""
        self._attaching: dict[int, CableSpec] = {}
        """The cables of requests to attach that were not answered."""
        self._detaching: dict[int, str] = {}
        """The cables of requests to detach that were not answered."""
        self._claims = Claims(self.started_at)
        self._channel = Channel(launched.connection, self._received, self._hung_up, self._refused, most=0)
        self._closed = False
        self._socket: Path | None = None
        """Where the process is to listen for the next control plane."""
        self._socket_file: tuple[int, int] | None = None
        """Device and inode of the socket that it listens on."""
        self._understands = True
        self._lines = False
        self.examination: Examination | None = None
        """The examination of the process, if a predecessor started it."""

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    @property
    def carries_lines(self) -> bool:
        """True where the process carries out impairment; one of 0.4.0 or older does not."""
        return self._lines or (self.description is not None and self.description.lines)

    async def begin(self, start: Start, table_fd: int, directory: Path | None) -> None:
        """Send the first message and wait until the process is ready.

        ``directory`` is where it listens for the next control plane. Raises WorkerLost when the process ends
        instead, even if it was ready for a moment."""
        ready = self._answers[0] = asyncio.get_running_loop().create_future()
        with contextlib.ExitStack() as stack:
            fds: tuple[int, ...] = (table_fd,)
            if directory is not None:
                path = self._socket = directory / socket_name(self.pid)
                try:
                    fds = (table_fd, stack.enter_context(listening_socket(path)).fileno())
                    self._socket_file = file_identity(path)
                except OSError as error:
                    log.warning("%s: %s: the worker will not outlive the control plane", path, error.strerror)
            self._channel.send(start, fds)
            await ready
        if self._closed:
            raise self._lost()
        self.running = True

    def adopt(
        self,
        path: Path | None,
        cables: Iterable[CableSpec] = (),
        *,
        understands: bool = True,
        lines: bool = False,
    ) -> None:
        """Treat the process as ready: a predecessor started it, and gave it ``cables``. ``path`` is where it
        listens; with ``lines`` it carries out impairment.

        A process that does not understand this version is only sent Detach and End."""
        self._socket = path
        self._socket_file = file_identity(path) if path is not None else None
        self._understands = understands
        self._lines = lines
        for cable in cables:
            self._claims.give([cable])
            if cable.kind != CableKind.KEPT:
                self._holdings.record(cable)
        self.running = True
        if understands:
            self.examination = Examination(self._name, self.pid, self._describe)

    async def other_version(self) -> str:
        """Return the version that the process runs as :class:`Examination`. Raises OSError."""
        if self.examination is None:
            return ""  # it was started by this process
        return await self.examination.other_version(lambda: self.description)

    def _describe(self, output: int) -> asyncio.Future[None]:
        return self._request(Describe(next(self._ids)), (output,))

    @property
    def can_be_found(self) -> bool:
        """True while the next control plane finds the process by its socket, or is not to find it."""
        if self._socket is None or not self.running or not self._understands:
            return True
        return self._socket_file is not None and file_identity(self._socket) == self._socket_file

    async def listen_again(self) -> None:
        """Have the process listen at its path again, whose file others have removed.

        Raises OSError, WorkerLost, or WorkerRefused when the process is of an older version."""
        if self._socket is None:
            return
        with listening_socket(self._socket) as listener:
            # Requested once: a process of an older version keeps the descriptor each time. The file stays, so
            # that the next control plane ends the process, which it cannot take over.
            self._socket_file = file_identity(self._socket)
            try:
                await self._request(Listen(next(self._ids)), (listener.fileno(),))
            except WorkerRefused as error:
                raise WorkerRefused(
                    f"{self._name} (pid {self.pid}) is of an older version and will not outlive the control "
                    "plane"
                ) from error

    def attach(self, attachment: Attachment) -> asyncio.Future[None]:
        """Request that a cable is forwarded, once no other process may read it."""
        if not self.carries_lines:
            attachment = attachment.without_lines()
        spec = attachment.spec
        request = Attach(next(self._ids), spec)
        answer = self._expect(request.id)

        def granted() -> None:
            self._waiting.pop(spec.name, None)
            self._claims.give([spec])
            self._channel.send(request, attachment.fds)

        if not answer.done():
            self._attaching[request.id] = spec
            self._waiting[spec.name] = request.id
            self._holdings.claim(spec, granted)
            if spec.name in self._waiting:
                log.warning("%s (pid %d): %s waits for another process", self._name, self.pid, spec.name)
        return answer

    def resize(self, cable: str, mtus: tuple[int, ...]) -> asyncio.Future[None]:
        """Request that new MTUs, in bytes, apply to a cable."""
        return self._request(Resize(next(self._ids), cable, mtus))

    def impair(
        self, cable: str, port: int, line: tuple[LineSpec, ...], fds: tuple[int, ...]
    ) -> asyncio.Future[None]:
        """Request that another impairment applies to what a port transmits."""
        return self._request(Impair(next(self._ids), cable, port, line), fds)

    def detach(self, cable: str, patience: float) -> asyncio.Future[None]:
        """Request that a cable is detached and its descriptors are closed."""
        return self._detach(Detach(next(self._ids), cable, patience))

    def keep(self, cable: str, patience: float) -> asyncio.Future[None]:
        """Request that a cable is detached; its descriptors stay open until it is attached or detached."""
        if not self._understands:
            return self.detach(cable, patience)
        return self._detach(Keep(next(self._ids), cable, patience))

    def pause(self, cable: str, seconds: float) -> asyncio.Future[None]:
        """Request that nothing of a cable is read or written, for some seconds at most."""
        return self._request(Pause(next(self._ids), cable, seconds))

    def end_pause(self, cable: str) -> asyncio.Future[None]:
        """Request that a pause ends; fails with WorkerRefused when it has ended already."""
        return self._request(Continue(next(self._ids), cable))

    def amend(self, cable: str, corrections: tuple[Correction, ...]) -> asyncio.Future[None]:
        """Request that what is missing is added to the counters of a cable."""
        return self._request(Amend(next(self._ids), cable, corrections))

    def tune(self, settings: Start) -> asyncio.Future[None]:
        """Request that the settings which can change apply."""
        values = settings.queue_limit, settings.poll_spin_us, settings.orphan_timeout
        return self._request(Tune(next(self._ids), *values))

    def ping(self) -> None:
        """Request a heartbeat, which appears in the ledger."""
        self._channel.send(Ping())

    def request_end(self) -> None:
        """Request that the process ends."""
        self._channel.send(End())

    async def drained(self) -> None:
        """Wait until every request is answered, or never will be."""
        while pending := [answer for answer in self._answers.values() if not answer.done()]:
            await asyncio.wait(pending)

    def abandon(self) -> None:
        """Send no more requests, and fail those that were not answered with WorkerLost."""
        self.running = False
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(self._lost())
                answer.exception()  # its caller may have given up
        self._answers.clear()
        for request in self._waiting.values():
            self._holdings.withdraw(self._attaching[request])
        self._waiting.clear()
        self._attaching.clear()
        self._detaching.clear()

    def leave(self) -> None:
        """Close the connection and leave the process as an orphan."""
        self.abandon()
        self._channel.close()

    def kill(self) -> None:
        """Kill the process."""
        kill(self.process)

    async def terminate(self) -> None:
        """Kill the process and wait until it has ended."""
        self.kill()
        await self.wait(1.0)

    async def wait(self, patience_s: float) -> str:
        """Wait for the process, which is about to end; kill it when it takes longer than ``patience_s``
        seconds.

        Return how it ended, in words."""
        how = await reap(self.process, patience_s)
        self.abandon()
        self._holdings.release_all()
        self._channel.close()
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)
            self._socket = None  # by now the id may be another process's, with a socket of this name
        return how

    def _request(
        self,
        request: Describe | Resize | Impair | Detach | Keep | Pause | Continue | Amend | Tune | Listen,
        fds: tuple[int, ...] = (),
    ) -> asyncio.Future[None]:
        """Send a request; return its answer, which fails with WorkerRefused or WorkerLost."""
        answer = self._expect(request.id)
        if not answer.done():
            self._channel.send(request, fds)
        return answer

    def _expect(self, request: int) -> asyncio.Future[None]:
        """Return the future answer to a request; it has failed already if the process takes none."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.running:
            self._answers[request] = answer
        else:
            answer.set_exception(WorkerLost(f"{self._name} is not running"))
        return answer

    def _detach(self, request: Detach | Keep) -> asyncio.Future[None]:
        if (waiting := self._waiting.pop(request.cable, None)) is not None:
            # The process has not been requested to attach it yet.
            self._answered(waiting, f"{request.cable} is detached already")
            nothing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            nothing.set_result(None)
            return nothing
        if self.running:
            self._detaching[request.id] = request.cable
        return self._request(request)

    def _release(self, cable: str) -> None:
        self._claims.withdraw(cable, time.monotonic())
        self._holdings.release(cable)

    def _received(self, message: Message, fds: list[int]) -> None:
        for fd in fds:  # no message to the control plane has any here
            os.close(fd)
        validate(message, len(fds), slots=0)
        match message:
            case Ready() if 0 in self._answers:
                self._answered(0)
            case Done() if message.id in self._answers:
                self._answered(message.id, one_line(message.error[:TEXT_MAX]), message.errno)
            case Adopted() | Attached():
                raise InvalidMessage(f"{type(message).__name__} was not requested")
            case Description():
                self._claims.check(message, time.monotonic())
                self.description = message
            case Unknown():
                self._claims.check(message, time.monotonic())
                log.debug("%s: a message of the unknown type %r was ignored", self._name, message.name)
            case Ready() | Done():  # the answer to a request that was cancelled, or a predecessor's
                self._claims.check(message, time.monotonic())
            case _:
                self._claims.check(message, time.monotonic())
                self._on_message(message)

    def _refused(self, error: InvalidMessage) -> None:
        """Kill the process because of what it has sent."""
        log.warning("%s (pid %d) sent what no worker sends: %s; killing it", self._name, self.pid, error)
        self.kill()
        self._hung_up()

    def _answered(self, request: int, error: str = "", number: int = 0) -> None:
        # A request whose caller was cancelled is carried out all the same.
        if (cable := self._detaching.pop(request, None)) is not None:
            self._release(cable)
        if (spec := self._attaching.pop(request, None)) is not None and error:
            self._claims.withdraw(spec.name, time.monotonic())
            self._holdings.withdraw(spec)
        answer = self._answers.pop(request)
        if answer.done():
            return
        if error:
            answer.set_exception(WorkerRefused(error, number))
        else:
            answer.set_result(None)

    def _hung_up(self) -> None:
        self._closed = True
        self._on_end(self)

    def _lost(self) -> WorkerLost:
        return WorkerLost(f"{self._name} has ended")
