"""The link to one worker process: requests, their answers, and its end.

With the first message the process is given a socket that listens in the daemon's run directory, by which the
next control plane finds it when this one is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from epaird.control.workers.processes import Launched, kill, reap
from epaird.ipc.channel import Channel
from epaird.ipc.messages import (
    Amend,
    Attach,
    CableSpec,
    Continue,
    Detach,
    Done,
    End,
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

log = logging.getLogger(__name__)


class WorkerLost(Exception):
    """The process ended, or there was none to answer. ``str()`` is one line."""


class WorkerRefused(Exception):
    """The process cannot carry out a request. ``str()`` is one line."""

    def __init__(self, message: str, error: int = 0) -> None:
        """``error`` is an errno number; 0 if there is none."""
        super().__init__(message)
        self.errno = error or errno.EIO


@dataclass(frozen=True, slots=True)
class Attachment:
    """A cable that a worker forwards."""

    spec: CableSpec
    """Its ports and what is done with their frames."""
    fds: tuple[int, ...]
    """Descriptors of its ports, in order, which the control plane keeps open."""

    @property
    def cable(self) -> str:
        """Name of the cable, unique in the worker."""
        return self.spec.name


class Link:
    """The control plane's side of one worker process."""

    def __init__(
        self,
        name: str,
        launched: Launched,
        on_message: Callable[[Message], None],
        on_end: Callable[[Link], None],
    ) -> None:
        """``name`` is the worker's, ``worker 0``; ``on_message`` is called with each message that is no
        answer, and ``on_end`` once, when the process has closed its end."""
        self.process = launched.process
        self.started_at = time.monotonic()
        """CLOCK_MONOTONIC in seconds when this link began."""
        self.running = False
        """True while the process takes requests."""
        self._name = name
        self._on_message = on_message
        self._on_end = on_end
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[None]] = {}
        self._channel = Channel(launched.connection, self._received, self._hung_up)
        self._closed = False
        self._socket: Path | None = None
        """Where the process is to listen for the next control plane."""
        self._socket_file: tuple[int, int] | None = None
        """Device and inode of the socket that it listens on."""
        self._understands = True

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

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
                    fds = (table_fd, stack.enter_context(_listener(path)).fileno())
                    self._socket_file = _identity(path)
                except OSError as error:
                    log.warning("%s: %s: the worker will not outlive the control plane", path, error.strerror)
            self._channel.send(start, fds)
            await ready
        if self._closed:
            raise self._lost()
        self.running = True

    def adopt(self, path: Path | None, *, understands: bool = True) -> None:
        """Treat the process as ready: a predecessor started it. ``path`` is where it listens.

        A process that does not understand this version is only sent Detach and End."""
        self._socket = path
        self._socket_file = _identity(path) if path is not None else None
        self._understands = understands
        self.running = True

    @property
    def can_be_found(self) -> bool:
        """True while the next control plane finds the process by its socket, or is not to find it."""
        if self._socket is None or not self.running or not self._understands:
            return True
        return self._socket_file is not None and _identity(self._socket) == self._socket_file

    async def listen_again(self) -> None:
        """Have the process listen at its path again, whose file others have removed.

        Raises OSError, WorkerLost, or WorkerRefused when the process is of an older version."""
        if self._socket is None:
            return
        with _listener(self._socket) as listener:
            # Requested once: a process of an older version keeps the descriptor each time. The file stays, so
            # that the next control plane ends the process, which it cannot take over.
            self._socket_file = _identity(self._socket)
            try:
                await self._request(Listen(next(self._ids)), (listener.fileno(),))
            except WorkerRefused as error:
                raise WorkerRefused(
                    f"{self._name} (pid {self.pid}) is of an older version and will not outlive the control "
                    "plane"
                ) from error

    def attach(self, attachment: Attachment) -> asyncio.Future[None]:
        """Request that a cable is forwarded."""
        return self._request(Attach(next(self._ids), attachment.spec), attachment.fds)

    def resize(self, cable: str, mtus: tuple[int, ...]) -> asyncio.Future[None]:
        """Request that new MTUs, in bytes, apply to a cable."""
        return self._request(Resize(next(self._ids), cable, mtus))

    def detach(self, cable: str, patience: float) -> asyncio.Future[None]:
        """Request that a cable is detached and its descriptors are closed."""
        return self._request(Detach(next(self._ids), cable, patience))

    def keep(self, cable: str, patience: float) -> asyncio.Future[None]:
        """Request that a cable is detached; its descriptors stay open until it is attached or detached."""
        if not self._understands:
            return self.detach(cable, patience)
        return self._request(Keep(next(self._ids), cable, patience))

    def pause(self, cable: str, seconds: float) -> asyncio.Future[None]:
        """Request that nothing of a cable is read or written, for some seconds at most."""
        return self._request(Pause(next(self._ids), cable, seconds))

    def end_pause(self, cable: str) -> asyncio.Future[None]:
        """Request that a pause ends; fails with WorkerRefused when it has ended already."""
        return self._request(Continue(next(self._ids), cable))

    def amend(self, cable: str, corrections: tuple[Correction, ...]) -> asyncio.Future[None]:
        """Request that what is missing is added to the counters of a cable."""
        return self._request(Amend(next(self._ids), cable, corrections))

    def tune(self, queue_limit: int, poll_spin_us: int, orphan_timeout: float) -> asyncio.Future[None]:
        """Request that other settings apply: frames, microseconds and seconds."""
        return self._request(Tune(next(self._ids), queue_limit, poll_spin_us, orphan_timeout))

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
        self._answers.clear()

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
        self._channel.close()
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)
        return how

    def _request(
        self,
        request: Attach | Resize | Detach | Keep | Pause | Continue | Amend | Tune | Listen,
        fds: tuple[int, ...] = (),
    ) -> asyncio.Future[None]:
        """Send a request; return its answer, which fails with WorkerRefused or WorkerLost."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.running:
            self._answers[request.id] = answer
            self._channel.send(request, fds)
        else:
            answer.set_exception(WorkerLost(f"{self._name} is not running"))
        return answer

    def _received(self, message: Message, fds: list[int]) -> None:
        for fd in fds:  # no message to the control plane has any
            os.close(fd)
        match message:
            case Ready():
                self._answered(0)
            case Done():
                self._answered(message.id, message.error, message.errno)
            case Unknown():
                log.debug("%s: a message of the unknown type %r was ignored", self._name, message.name)
            case _:
                self._on_message(message)

    def _answered(self, request: int, error: str = "", number: int = 0) -> None:
        answer = self._answers.pop(request, None)
        if answer is None or answer.done():
            return  # cancelled, or a predecessor's request
        if error:
            answer.set_exception(WorkerRefused(error, number))
        else:
            answer.set_result(None)

    def _hung_up(self) -> None:
        self._closed = True
        self._on_end(self)

    def _lost(self) -> WorkerLost:
        return WorkerLost(f"{self._name} has ended")


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file; None if there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def socket_name(pid: int | str) -> str:
    """Return the name of the socket file of a worker process; ``*`` gives the pattern for all."""
    return f"worker-{pid}.sock"


@contextlib.contextmanager
def by_directory(path: Path) -> Iterator[str]:
    """Yield a short name for the path of a socket, which may have 107 bytes (unix(7))."""
    fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)


def _listener(path: Path) -> socket.socket:
    """Return a socket that listens at a path and is accessible to its owner only. Raises OSError."""
    with contextlib.ExitStack() as undo:
        listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        # The socket's own mode becomes the file's.
        os.fchmod(listener.fileno(), 0o600)
        path.unlink(missing_ok=True)
        with by_directory(path) as short:
            listener.bind(short)
        listener.listen(1)
        undo.pop_all()
    return listener
