"""The worker's process: ``python -m epaird.dataplane FD``, FD being its end of the socketpair."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys

import uvloop

from epaird.channel import Channel
from epaird.dataplane.worker import Worker
from epaird.kernel.privileges import drop_all
from epaird.ledger import Table
from epaird.messages import Message, Ready, Start


class Process:
    """A worker that waits for its first message, and then is one."""

    def __init__(self, connection: socket.socket) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self._channel = Channel(connection, self._received, lambda: self.ended.set_result(None))
        self._worker: Worker | None = None

    def _received(self, message: Message, fds: list[int]) -> None:
        if self._worker is not None:
            self._worker.obey(message, fds)
        elif isinstance(message, Start):
            self._start(message, *fds)

    def _start(self, start: Start, ledger_fd: int) -> None:
        table = Table(ledger_fd)
        os.close(ledger_fd)
        self._worker = Worker(start, table, self._channel.send)
        drop_all()
        # What exists now lives as long as the process: no collection need look at it again.
        gc.freeze()
        self._worker.begin()
        self._channel.send(Ready(os.getpid()))


async def forward(connection: socket.socket) -> None:
    """Forward until the control plane ends."""
    await Process(connection).ended


def main() -> None:
    """Run until the control plane ends.  Ctrl-C and a service's stop go to the control plane, not to us."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    uvloop.run(forward(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
