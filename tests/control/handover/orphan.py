"""Workers of a takeover: orphans whose answers the test writes, and workers that can be started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from epaird.control.workers.socketfile import socket_name
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

PROGRAM: Final = """
import json, socket, sys
control = socket.socket(fileno=int(sys.argv[1]))
answers = []
while (received := socket.recv_fds(control, 65536, 253))[0] != b"listen":
    answers.append(received[:2])
listener = socket.socket(fileno=received[1][0])
def answer(connection):
    while packet := connection.recv(65536):
        request = json.loads(packet)
        if request["type"] == "End":
            sys.exit()
        if request["type"] == "Adopt":
            for data, fds in answers:
                socket.send_fds(connection, [data], fds)
        else:
            connection.send(json.dumps({"type": "Done", "id": request["id"]}).encode())

while True:
    try:
        answer(listener.accept()[0])
    except OSError:
        pass  # the other side has closed its end
"""
"""A process of its own, because the kernel reports which process answers. A connection may follow another."""


class FakeOrphan:
    """An orphan with some cables."""

    def __init__(self, number: int, slot: int, ledger: int, protocol: int = PROTOCOL) -> None:
        """``ledger`` is the descriptor of the ledger's memory file."""
        self._control, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with there:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", PROGRAM, str(there.fileno()), "epaird.dataplane"],
                pass_fds=(there.fileno(),),
            )
        self.about = Adopted(self.process.pid, number, slot, 2100, 0, protocol)
        self.cables: dict[str, tuple[CableSpec, tuple[int, ...]]] = {}
        """The cables that it forwards, with the descriptors of their ports."""
        self.packets: list[tuple[bytes, tuple[int, ...]]] | None = None
        """What it answers with where a test wants something else, each packet with its descriptors."""
        self.requests: list[Message] = []
        """Requests that a thread in its place has received."""
        self.dies_at: type[Message] | None = None
        """The request at which it dies."""
        self._ledger = ledger

    def answers(self) -> list[tuple[bytes, tuple[int, ...]]]:
        """Return the packets of its answer to Adopt."""
        cables = [(encode(Attached(spec)), fds) for spec, fds in self.cables.values()]
        return [(encode(self.about), (self._ledger,)), *cables, (encode(Done(0)), ())]

    def answer(self, connection: socket.socket) -> None:
        """Answer requests in place of the process, until the connection is closed or the end is requested."""
        with connection:
            while (received := receive(connection))[0]:
                packet, passed = received
                for fd in passed:
                    os.close(fd)
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
        self.end()

    def end(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        self._control.close()

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
        """Have it listen in a run directory, and answer a control plane."""
        for data, fds in self.packets if self.packets is not None else self.answers():
            socket.send_fds(self._control, [data], fds)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(directory / socket_name(self.process.pid)))
            listener.listen(1)
            socket.send_fds(self._control, [b"listen"], [listener.fileno()])
        try:
            yield
        finally:
            self.end()


class StartedWorker(IdleWorker):
    """An idle worker that can be started."""

    async def start(self, attempts: int = 1) -> None:  # noqa: ARG002
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
