"""The link to one worker process: orders go, answers come, and at last it ends.

Beside the connection the process is given a socket that listens in the daemon's run directory, by which
another control plane finds it when this one is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from epaird.control.workers.processes import Launched, end
from epaird.ipc.channel import Channel
from epaird.ipc.messages import (
    Attach,
    CableSpec,
    Detach,
    Done,
    End,
    Keep,
    Message,
    Ping,
    Ready,
    Resize,
    Start,
    Tune,
    Unknown,
)

log = logging.getLogger(__name__)


class WorkerLost(Exception):
    """The process ended, or was never there to answer.  ``str()`` is one line."""


class WorkerRefused(Exception):
    """The process cannot do what it was asked.  ``str()`` is one line."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A cable as its worker forwards it."""

    spec: CableSpec
    """What is forwarded, and how."""
    fds: tuple[int, ...]
    """The descriptors of its ports, in order, which the control plane keeps open."""

    @property
    def cable(self) -> str:
        """Name of the cable, unique in the worker."""
        return self.spec.name


class Link:
    """One process, and what was asked of it."""

    def __init__(
        self,
        name: str,
        launched: Launched,
        heard: Callable[[Message], None],
        ended: Callable[[Link], None],
    ) -> None:
        """``name`` is who it works for, ``worker 0``; ``heard`` gets its news, and ``ended`` is called once,
        when it has closed its end."""
        self.process = launched.process
        self.running = False
        """It takes orders."""
        self._name = name
        self._heard = heard
        self._ended = ended
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[None]] = {}
        self._channel = Channel(launched.connection, self._received, self._hung_up)
        self._socket: Path | None = None
        self._understands = True

    @property
    def pid(self) -> int:
        """The process's."""
        return self.process.pid

    async def begin(self, start: Start, table_fd: int, directory: Path | None) -> None:
        """Send the first message and wait for the answer.

        Raises WorkerLost when the process ends instead.  ``directory`` is where it shall listen for
        another control plane."""
        ready = self._answers[0] = asyncio.get_running_loop().create_future()
        with contextlib.ExitStack() as stack:
            fds: tuple[int, ...] = (table_fd,)
            if directory is not None:
                path = directory / socket_name(self.pid)
                try:
                    fds = (table_fd, stack.enter_context(_listener(path)).fileno())
                except OSError as error:
                    log.warning("%s: %s: it will not outlive the control plane", path, error.strerror)
                else:
                    self._socket = path
            self._channel.send(start, fds)
            await ready
        self.running = True

    def adopted(self, path: Path | None, *, understands: bool = True) -> None:
        """It runs already, for it was begun by a predecessor; ``path`` is where it listens.

        One that does not understand us can be told to detach and to end, and nothing else."""
        self._socket = path
        self._understands = understands
        self.running = True

    def attach(self, each: Attachment) -> asyncio.Future[None]:
        """Have a cable forwarded."""
        return self._ask(Attach(next(self._ids), each.spec), each.fds)

    def resize(self, cable: str, mtus: tuple[int, ...]) -> asyncio.Future[None]:
        """Tell of new MTUs, in bytes."""
        return self._ask(Resize(next(self._ids), cable, mtus))

    def detach(self, cable: str, patience: float) -> asyncio.Future[None]:
        """Have a cable let go."""
        return self._ask(Detach(next(self._ids), cable, patience))

    def keep(self, cable: str, patience: float) -> asyncio.Future[None]:
        """Have a cable let go but for its descriptors, until it is attached again or detached."""
        if not self._understands:
            return self.detach(cable, patience)
        return self._ask(Keep(next(self._ids), cable, patience))

    def tune(self, queue_limit: int, poll_spin_us: int, orphan_timeout: float) -> asyncio.Future[None]:
        """Have it work by other settings."""
        return self._ask(Tune(next(self._ids), queue_limit, poll_spin_us, orphan_timeout))

    def ping(self) -> None:
        """Ask for a beat of its heart, which is seen in the ledger."""
        self._channel.send(Ping())

    def tell_to_end(self) -> None:
        """Have it end."""
        self._channel.send(End())

    def abandon(self) -> None:
        """Wait for no answer any more."""
        self.running = False
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(WorkerLost(f"{self._name} has ended"))
        self._answers.clear()

    def leave(self) -> None:
        """Close the connection and let it go on, an orphan."""
        self.abandon()
        self._channel.close()

    async def gone(self, patience_s: float) -> str:
        """Wait until the process, which has reason to end, has; kill it otherwise.  Says how it ended."""
        how = await end(self.process, patience_s)
        self._channel.close()
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)
        return how

    def _ask(
        self, order: Attach | Resize | Detach | Keep | Tune, fds: tuple[int, ...] = ()
    ) -> asyncio.Future[None]:
        """The answer, WorkerRefused, or WorkerLost when there will be none."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.running:
            self._answers[order.id] = answer
            self._channel.send(order, fds)
        else:
            answer.set_exception(WorkerLost(f"{self._name} is not running"))
        return answer

    def _received(self, message: Message, _fds: list[int]) -> None:
        match message:
            case Ready():
                self._answered(0)
            case Done():
                self._answered(message.id, message.error)
            case Unknown():
                log.debug("%s: a message of the unknown type %r was ignored", self._name, message.name)
            case _:
                self._heard(message)

    def _answered(self, order: int, error: str = "") -> None:
        answer = self._answers.pop(order, None)
        if answer is None or answer.done():
            return  # nobody waits any more, or a predecessor did
        if error:
            answer.set_exception(WorkerRefused(error))
        else:
            answer.set_result(None)

    def _hung_up(self) -> None:
        self._ended(self)


def socket_name(pid: int | str) -> str:
    """The name of the file where a worker process listens; ``*`` for that of any."""
    return f"worker-{pid}.sock"


@contextlib.contextmanager
def by_directory(path: Path) -> Iterator[str]:
    """A short name for a path: one of a socket may have 107 bytes."""
    fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)


def _listener(path: Path) -> socket.socket:
    """A socket that listens at a path, for us alone.  Raises OSError."""
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
