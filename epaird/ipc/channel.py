"""One end of the socketpair between the control plane and a worker, on an event loop.

This module is part of the data plane's world too: it imports the standard library only.
"""

from __future__ import annotations

import array
import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Final

from epaird.ipc.messages import Message, decode, encode

_MESSAGE_MAX: Final = 65536
_FDS_MAX: Final = 4


class Channel:
    """Sends without ever blocking, and calls back with what arrives."""

    def __init__(
        self,
        connection: socket.socket,
        received: Callable[[Message, list[int]], None],
        ended: Callable[[], None],
    ) -> None:
        """Take over ``connection``, a SOCK_SEQPACKET socket.

        ``received`` gets each message and the descriptors that came with it, which are its to close;
        ``ended`` is called once, when the other side has closed its end."""
        connection.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._received = received
        self._ended = ended
        # The kernel takes ten packets at a time (net.unix.max_dgram_qlen); the others wait here.
        self._outbox: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._loop.add_reader(connection.fileno(), self._readable)

    def send(self, message: Message, fds: tuple[int, ...] = ()) -> None:
        """Send a message, and descriptors with it; they must stay open until it is answered.

        To an end that is closed nothing is sent."""
        if self._connection.fileno() < 0:
            return
        self._outbox.append((encode(message), fds))
        if len(self._outbox) == 1:
            self._flush()

    def close(self) -> None:
        """Close our end; what has not been sent is dropped."""
        self._outbox.clear()
        if self._connection.fileno() >= 0:
            self._loop.remove_reader(self._connection.fileno())
            self._loop.remove_writer(self._connection.fileno())
            self._connection.close()

    def _flush(self) -> None:
        while self._outbox:
            packet, fds = self._outbox[0]
            try:
                socket.send_fds(self._connection, [packet], fds)
            except BlockingIOError:
                self._loop.add_writer(self._connection.fileno(), self._flush)
                return
            except (BrokenPipeError, ConnectionResetError):
                # The other side is gone; the reader learns it too, and says so.
                self._outbox.clear()
                break
            self._outbox.popleft()
        self._loop.remove_writer(self._connection.fileno())

    def _readable(self) -> None:
        while self._connection.fileno() >= 0:
            try:
                packet, fds = _receive(self._connection)
            except BlockingIOError:
                return
            except ConnectionResetError:
                packet = b""
            if not packet:
                self.close()
                self._ended()
                return
            self._received(decode(packet), fds)


def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    # Not by socket.recv_fds(): it takes flags and leaves them out (Python 3.11).
    fds = array.array("i")
    packet, ancillary, _flags, _address = connection.recvmsg(
        _MESSAGE_MAX, socket.CMSG_LEN(_FDS_MAX * fds.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return packet, list(fds)
