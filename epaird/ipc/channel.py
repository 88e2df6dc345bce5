"""One end of the socketpair between the control plane and a worker.

:class:`Channel` serves it on an event loop, :class:`Assembler` is the part without I/O: it joins the packets
of a message whose descriptors do not fit one packet.

This module is imported by worker processes: it uses the standard library only.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from epaird.ipc.encoding import InvalidMessage, decode, encode
from epaird.ipc.messages import Message, More

MESSAGE_MAX: Final = 65536
"""Bytes of the largest packet."""
FDS_MAX: Final = 253
"""Descriptors that one packet carries (SCM_MAX_FD, net/scm.h)."""
PACKETS_AT_ONCE: Final = 64
"""Packets that a channel reads before it returns to the loop, so that no sender can keep the loop busy."""


def packets(message: Message, fds: Sequence[int]) -> Iterator[tuple[bytes, tuple[int, ...]]]:
    """Yield the packets of a message, each with the descriptors that travel with it."""
    rest = tuple(fds)
    while len(rest) > FDS_MAX:
        yield encode(More()), rest[:FDS_MAX]
        rest = rest[FDS_MAX:]
    yield encode(message), rest


class Assembler:
    """Makes messages of packets as they arrive."""

    def __init__(self, most: int | None = None) -> None:
        """``most`` is how many descriptors a message may have; None is any number."""
        self._most = most
        self._fds: list[int] = []

    def add(self, packet: bytes, fds: list[int]) -> tuple[Message, list[int]] | None:
        """Return the message that a packet completes and its descriptors, or None while more will follow.

        The caller has to close the descriptors. Raises InvalidMessage when a packet is no message or a
        message has too many descriptors; then all descriptors received so far are closed."""
        self._fds += fds
        try:
            message = decode(packet)
            if isinstance(message, More) and not fds:
                raise InvalidMessage("a message that carries descriptors has none")
            if self._most is not None and len(self._fds) > self._most:
                raise InvalidMessage(f"a message has more than {self._most} descriptors")
        except BaseException:
            self.close()
            raise
        if isinstance(message, More):
            return None
        complete, self._fds = self._fds, []
        return message, complete

    def close(self) -> None:
        """Close the descriptors of a message that was not completed."""
        for fd in self._fds:
            os.close(fd)
        self._fds = []


def receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """Return one packet and the descriptors that came with it; an empty packet is the end.

    Raises OSError."""
    # Not by socket.recv_fds(): it takes flags and leaves them out (Python 3.11).
    fds = array.array("i")
    packet, ancillary, _flags, _address = connection.recvmsg(
        MESSAGE_MAX, socket.CMSG_LEN(FDS_MAX * fds.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    if not packet:  # the end, or an empty packet, which is treated as one
        for fd in fds:
            os.close(fd)
        return b"", []
    return packet, list(fds)


class Channel:
    """Sends messages without ever blocking, and calls back with those that arrive."""

    def __init__(
        self,
        connection: socket.socket,
        received: Callable[[Message, list[int]], None],
        ended: Callable[[], None],
        invalid: Callable[[InvalidMessage], None] | None = None,
        *,
        most: int | None = None,
    ) -> None:
        """Take over ``connection``, a SOCK_SEQPACKET socket.

        ``received`` is called with each message and the descriptors that came with it, which it has to
        close; ``ended`` is called once, when the other side has closed its end. ``invalid`` is called once,
        and the channel is closed, when what arrives is no message, has more than ``most`` descriptors, or is
        refused by ``received`` with InvalidMessage; without ``invalid`` this is an unexpected exception."""
        connection.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._received = received
        self._ended = ended
        self._invalid = invalid
        self._assembler = Assembler(most)
        # The kernel takes as many packets as fit the socket's buffer, some hundred; the others wait here.
        self._outbox: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._loop.add_reader(connection.fileno(), self._readable)

    def send(self, message: Message, fds: tuple[int, ...] = ()) -> None:
        """Send a message and descriptors with it; they must stay open until it is answered.

        On a closed channel nothing is sent."""
        if self._connection.fileno() < 0:
            return
        idle = not self._outbox
        self._outbox += packets(message, fds)
        if idle:
            self._flush()

    def close(self) -> None:
        """Close this end; messages that were not sent are dropped."""
        self._outbox.clear()
        self._assembler.close()
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
                # The other side is gone; the reader finds out too, and reports it.
                self._outbox.clear()
                break
            self._outbox.popleft()
        self._loop.remove_writer(self._connection.fileno())

    def _readable(self) -> None:
        for _ in range(PACKETS_AT_ONCE):
            if self._connection.fileno() < 0:
                return
            try:
                packet, fds = receive(self._connection)
            except BlockingIOError:
                return
            except ConnectionResetError:
                packet = b""
            if not packet:
                self.close()
                self._ended()
                return
            try:
                complete = self._assembler.add(packet, fds)
                if complete is not None:
                    self._received(*complete)
            except InvalidMessage as error:
                if self._invalid is None:
                    raise
                self.close()
                self._invalid(error)
