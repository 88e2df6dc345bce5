"""Workers of a takeover: orphans that answer requests in a thread, and workers that can be started."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from epaird.control.workers.link import socket_name
from epaird.control.workers.worker import Worker
from epaird.ipc.channel import receive
from epaird.ipc.encoding import decode, encode
from epaird.ipc.messages import (
    PROTOCOL,
    Adopt,
    Adopted,
    Attached,
    CableSpec,
    Done,
    End,
    Message,
)
from tests.control.interfaces.scene import Scene
from tests.control.stage import IdleWorker


class FakeOrphan:
    """An orphan with some cables. Its process is another program, which ends with it."""

    def __init__(self, number: int, slot: int, ledger: int, protocol: int = PROTOCOL) -> None:
        """``ledger`` is the descriptor of the ledger's memory file."""
        self.process = subprocess.Popen(["sleep", "600"])
        self.about = Adopted(self.process.pid, number, slot, 2100, 0, protocol)
        self.cables: dict[str, tuple[CableSpec, tuple[int, ...]]] = {}
        """The cables that it forwards, with the descriptors of their ports."""
        self.requests: list[Message] = []
        """Requests that it has received."""
        self.dies_at: type[Message] | None = None
        """The request at which it dies."""
        self._ledger = ledger

    def answer(self, connection: socket.socket) -> None:
        """Answer requests until the other side closes the connection or requests the end."""
        with connection:
            while packet := receive(connection)[0]:
                request = decode(packet)
                self.requests.append(request)
                if isinstance(request, (End, self.dies_at or End)):
                    break
                match request:
                    case Adopt():
                        socket.send_fds(connection, [encode(self.about)], [self._ledger])
                        for spec, fds in self.cables.values():
                            socket.send_fds(connection, [encode(Attached(spec))], fds)
                connection.send(encode(Done(getattr(request, "id", 0))))
        self.process.kill()
        self.process.wait()

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        """Provide a connection to it, without a socket in a directory."""
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        thread = threading.Thread(target=self.answer, args=(far,))
        thread.start()
        yield near
        near.close()
        thread.join(30)

    @contextmanager
    def listening(self, directory: Path) -> Iterator[None]:
        """Have it listen in a run directory."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(directory / socket_name(self.process.pid)))
            listener.listen(1)
            thread = threading.Thread(target=lambda: self.answer(listener.accept()[0]))
            thread.start()
            yield
            thread.join(30)


class StartedWorker(IdleWorker):
    """An idle worker that can be started."""

    async def start(self) -> None:
        self.requests.append(("start",))


def started_worker(scene: Scene) -> StartedWorker:
    """Return worker 0 of a successor."""
    return StartedWorker(0, scene.table, scene.slots.take(), device_gone=_no_report, died=_no_settlement)


def _no_report(_cable: str, _device: str) -> None:
    """Do nothing."""


async def _no_settlement(_worker: Worker) -> None:
    """Do nothing."""


def pipe() -> int:
    """Return a descriptor in place of a device."""
    read, write = os.pipe()
    os.close(write)
    return read
