"""A worker process: it waits for its first message, serves one control plane, outlives it, and serves the
next.

A control plane that is gone has closed its end of the connection. The worker is an orphan then: it continues
to forward, and listens for the next control plane, which must run as root or as the user who started the
worker. On request it reports its settings and cables, and takes other requests from then on. It ends when
no control plane has connected in time, on request, or when it was given no socket to listen on.

An unexpected exception ends the process: the frames it had in hand are known to the ledger and the kernel,
and can be accounted for once it has ended, not while it continues.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import struct
from dataclasses import replace
from typing import Any, Final, NoReturn

from epaird.dataplane.sandbox import Sandbox
from epaird.dataplane.worker import WorkerLoop
from epaird.ipc.channel import Channel
from epaird.ipc.ledger import Table
from epaird.ipc.messages import (
    PROTOCOL,
    Adopt,
    Adopted,
    Describe,
    Description,
    Done,
    End,
    Listen,
    Message,
    Ready,
    Start,
    Tune,
)

SPARE: Final = "epaird-spare"
"""Name of a process that is no worker yet, as ps -o comm shows it."""
WORKER: Final = "epaird-w"
"""Name of a worker, without its number at the end."""
FAILED: Final = os.EX_SOFTWARE
"""Exit status of a process that ends by an internal error."""

_ARENA: Final = 1 << 20
"""Bytes that Python's allocator maps at a time (Objects/obmalloc.c)."""
_BLOCK: Final = 400
"""Bytes of an object that the allocator has in an arena: at most 512 with its header."""

_STDERR: Final = 2
_UCRED: Final = struct.Struct("iII")


class WorkerProcess:
    """One worker process."""

    def __init__(self, connection: socket.socket, owner: int, comm: int, description: Description) -> None:
        """``connection`` leads to the control plane, ``owner`` is the user whose processes may replace it,
        ``comm`` is the descriptor of the file that holds the name of the process, and ``description`` is what
        it is."""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the process is to end."""
        self._loop = asyncio.get_running_loop()
        self._owner = owner
        self._comm = comm
        self._description = description
        self._channel = Channel(connection, self._received, self._orphaned)
        self._worker: WorkerLoop | None = None
        self._start: Start
        self._table: Table
        self._listener: socket.socket | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._spare: bytes

    def _received(self, message: Message, fds: list[int]) -> None:
        match message:
            case End():
                self._end()
            case Adopt():
                self._report(message)
            case Describe():
                for fd in fds:
                    os.dup2(fd, _STDERR, inheritable=False)
                    os.close(fd)
                self._send(self._description)
                self._send(Done(message.id))
            case Start():
                self._begin(message, *fds)
            case Listen():
                self._listen(message, *fds)
            case Tune() if self._worker is not None:
                self._start = replace(
                    self._start,
                    queue_limit=message.queue_limit,
                    poll_spin_us=message.poll_spin_us,
                    orphan_timeout=message.orphan_timeout,
                )
                self._worker.handle(message, fds)
            case _ if self._worker is not None:
                self._worker.handle(message, fds)
            case _:
                raise ValueError(f"not a first message: {message}")

    def _begin(self, start: Start, ledger_fd: int, listener_fd: int | None = None) -> None:
        self._start = start
        self._table = Table(ledger_fd)
        if listener_fd is not None:
            self._listener = socket.socket(fileno=listener_fd)
            self._listener.setblocking(False)
        os.write(self._comm, f"{WORKER}{start.worker}".encode())
        self._worker = WorkerLoop(start, self._table, self._send)
        self._spare = _spare_memory()
        # Objects that exist now live as long as the process: no collection need examine them again.
        gc.freeze()
        self._worker.begin()
        self._send(Ready(os.getpid()))

    def describe(self) -> None:
        """Report what the process is, without a request."""
        self._send(self._description)

    def _listen(self, request: Listen, listener_fd: int) -> None:
        """Listen on another socket from now on, once this process is an orphan."""
        if self._listener is not None:
            self._listener.close()
        self._listener = socket.socket(fileno=listener_fd)
        self._listener.setblocking(False)
        self._send(Done(request.id))

    def _send(self, message: Message) -> None:
        self._channel.send(message)

    def _report(self, request: Adopt) -> None:
        """Report settings and cables to another control plane."""
        if self._worker is None:
            return
        start = self._start
        adopted = Adopted(
            os.getpid(), start.worker, start.slot, start.queue_limit, start.poll_spin_us, PROTOCOL, lines=True
        )
        self._channel.send(adopted, (self._table.fd,))
        for attached, fds in self._worker.attached():
            self._channel.send(attached, fds)
        self._send(Done(request.id))

    def _orphaned(self) -> None:
        """Listen for another control plane for a while, or end."""
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
        self._channel = Channel(connection, self._received, self._orphaned)

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


def _spare_memory() -> bytes:
    """Return an object that keeps an arena with free memory mapped.

    Otherwise chance decides how much is free in the last arena, and a burst may need a new one, which is
    unmapped after it: two system calls and many page faults."""
    return [bytes(_BLOCK) for _ in range(_ARENA // _BLOCK)][-1]


async def run(
    connection: socket.socket, owner: int, comm: int, sandbox: Sandbox, *, describe: bool
) -> NoReturn:
    """Close the sandbox and run a worker process until it ends; with ``describe``, report what it is first.

    The other arguments are those of :class:`WorkerProcess`. The process ends here: to close the event loop in
    an orderly way would need sockets, which the sandbox denies."""
    asyncio.get_running_loop().set_exception_handler(_fail)
    sandbox.close()
    process = WorkerProcess(connection, owner, comm, sandbox.description())
    if describe:
        process.describe()
    await process.ended
    os._exit(os.EX_OK)


def _fail(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report an exception, if there is memory for it, and end."""
    try:
        error = context.get("exception") or context.get("message")
        line = f"worker (pid {os.getpid()}): internal error or out of memory: {error!r}\n"
        os.write(_STDERR, line.encode())
    finally:
        os._exit(FAILED)
