"""A worker process among others: it waits for its first message, obeys one control plane, outlives it, and
obeys the next.

A control plane that is gone closes its end of the connection.  Then the worker is an orphan: it goes on
forwarding, and listens for the next control plane.  Whoever connects must be root or the user who started
it; being asked what it has, it tells, and obeys from then on.  When nobody has come in time, it ends.  So
it does when it is told to, or was given no socket to listen on.

An exception that nobody expected ends the process: what it had in hand is known to the ledger and the
kernel, and can be accounted for once it is gone, not while it goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import struct
from dataclasses import replace
from typing import Any, Final

from epaird.dataplane.worker import Worker
from epaird.ipc.channel import Channel
from epaird.ipc.ledger import Table
from epaird.ipc.messages import PROTOCOL, Adopt, Adopted, Done, End, Message, Ready, Start, Tune

SPARE: Final = "epaird-spare"
"""The name, as ps -o comm shows it, of a process that is nobody's worker yet."""
WORKER: Final = "epaird-w"
"""That of one that is, before the worker's number."""
FAILED: Final = 70
"""Exit status: EX_SOFTWARE of sysexits.h."""

_UCRED: Final = struct.Struct("iII")


class Process:
    """One worker process."""

    def __init__(self, connection: socket.socket, owner: int, comm: int) -> None:
        """``connection`` leads to the control plane, ``owner`` is the user who may send another one, and
        ``comm`` is the descriptor of the file that has the process's name."""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._owner = owner
        self._comm = comm
        self._channel = Channel(connection, self._received, self._alone)
        self._worker: Worker | None = None
        self._start: Start
        self._table: Table
        self._listener: socket.socket | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def _received(self, message: Message, fds: list[int]) -> None:
        match message:
            case End():
                self._end()
            case Adopt():
                self._tell(message)
            case Start():
                self._begin(message, *fds)
            case Tune() if self._worker is not None:
                self._start = replace(
                    self._start,
                    queue_limit=message.queue_limit,
                    poll_spin_us=message.poll_spin_us,
                    orphan_timeout=message.orphan_timeout,
                )
                self._worker.obey(message, fds)
            case _ if self._worker is not None:
                self._worker.obey(message, fds)
            case _:
                raise ValueError(f"not a first message: {message}")

    def _begin(self, start: Start, ledger_fd: int, listener_fd: int | None = None) -> None:
        self._start = start
        self._table = Table(ledger_fd)
        if listener_fd is not None:
            self._listener = socket.socket(fileno=listener_fd)
            self._listener.setblocking(False)
        os.write(self._comm, f"{WORKER}{start.worker}".encode())
        self._worker = Worker(start, self._table, self._say)
        # What exists now lives as long as the process: no collection need look at it again.
        gc.freeze()
        self._worker.begin()
        self._say(Ready(os.getpid()))

    def _say(self, message: Message) -> None:
        self._channel.send(message)

    def _tell(self, question: Adopt) -> None:
        """Tell another control plane everything."""
        if self._worker is None:
            return
        start = self._start
        about = Adopted(
            os.getpid(), start.worker, start.slot, start.queue_limit, start.poll_spin_us, PROTOCOL
        )
        self._channel.send(about, (self._table.fd,))
        for attached, fds in self._worker.attached():
            self._channel.send(attached, fds)
        self._say(Done(question.id))

    def _alone(self) -> None:
        """The control plane is gone."""
        if self._listener is None or self._start.orphan_timeout <= 0:
            self._end()
            return
        self._loop.add_reader(self._listener.fileno(), self._accept, self._listener)
        self._deadline = self._loop.call_later(self._start.orphan_timeout, self._end)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.ExitStack() as unwanted:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            unwanted.callback(connection.close)
            _, uid, _ = _UCRED.unpack(
                connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
            )
            if uid not in (0, self._owner):
                return
            unwanted.pop_all()
        self._loop.remove_reader(listener.fileno())
        if self._deadline is not None:
            self._deadline.cancel()
        self._channel = Channel(connection, self._received, self._alone)

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def forward(connection: socket.socket, owner: int, comm: int) -> None:
    """Forward until it is time to end."""
    asyncio.get_running_loop().set_exception_handler(_fail)
    await Process(connection, owner, comm).ended


def _fail(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say what it was, if there is memory for it, and end."""
    try:
        error = context.get("exception") or context.get("message")
        os.write(2, f"worker (pid {os.getpid()}): a bug of ours, or no memory: {error!r}\n".encode())
    finally:
        os._exit(FAILED)
