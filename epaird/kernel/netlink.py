"""Netlink messages packed by struct, for link events, statistics and requests.

pyroute2 decodes every attribute of a message into objects; link events and statistics need a handful of the
sixty, often, and for many devices.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from epaird.kernel import abi
from epaird.kernel.errors import KernelError

HEADER: Final = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence number, port."""
ATTRIBUTE: Final = struct.Struct("=HH")
"""struct nlattr: length, type."""
LINK: Final = struct.Struct("=BxHiII")
"""struct ifinfomsg: family, hardware type, index, flags, change mask."""
ADDRESS: Final = struct.Struct("=BBBBI")
"""struct ifaddrmsg: family, prefix length, flags, scope, index."""
ROUTE: Final = struct.Struct("=BBBBBBBBI")
"""struct rtmsg: family, destination and source prefix length, TOS, table, protocol, scope, type, flags."""
INT: Final = struct.Struct("=i")

BUFFER_BYTES: Final = 1 << 16
"""More than the kernel puts into one datagram of a dump (32 KB)."""
_REQUESTS_PER_SEND: Final = 64
"""Requests sent together. The socket has room for some 250 answers."""
_ANSWER_TIMEOUT_S: Final = 5
"""Timeout for an answer. The kernel normally answers within the system call."""


def attribute(kind: int, payload: bytes) -> bytes:
    """Return one attribute, padded to its alignment."""
    length = ATTRIBUTE.size + len(payload)
    return ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def attributes(buffer: bytearray, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (type, start, end) of each attribute's payload in ``buffer[start:end]``."""
    while start + ATTRIBUTE.size <= end:
        length, kind = ATTRIBUTE.unpack_from(buffer, start)
        if length < ATTRIBUTE.size:
            return
        yield kind & abi.NLA_TYPE_MASK, start + ATTRIBUTE.size, start + length
        start += (length + 3) & ~3


def messages(buffer: bytearray, size: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield (type, flags, sequence number, start, end) of each message's payload in a datagram."""
    start = 0
    while start + HEADER.size <= size:
        length, kind, flags, sequence, _ = HEADER.unpack_from(buffer, start)
        if length < HEADER.size:
            return
        yield kind, flags, sequence, start + HEADER.size, start + length
        start += (length + 3) & ~3


class RouteSocket:
    """An rtnetlink socket of the namespace in which it was created, for single and batched requests."""

    def __init__(self, buffer_bytes: int = BUFFER_BYTES) -> None:
        """``buffer_bytes`` is the size of a read: the kernel writes as much of a dump in one system call, up
        to 32 KB. Raises KernelError when the socket cannot be opened."""
        self.buffer = bytearray(buffer_bytes)
        self._sequence = 0
        self._socket = _open()

    def close(self) -> None:
        """Close the socket. A second call does nothing."""
        self._socket.close()

    def request(self, kind: int, flags: int, payload: bytes) -> Iterator[tuple[int, int, int, int]]:
        """Send a request and yield (type, flags, start, end) of each message of the answer.

        The payload of a message is in ``buffer``. The caller must exhaust the iterator. Raises KernelError
        with the kernel's errno; EMSGSIZE when a message does not fit the buffer.
        """
        try:
            yield from self._converse(kind, flags | abi.NLM_F_REQUEST, payload)
        except OSError as error:
            # The rest of this answer must not be taken for the answer to the next request.
            self._socket.close()
            self._socket = _open()
            raise KernelError.about("netlink", error.errno) from error

    def execute(self, requests: Sequence[tuple[int, int, bytes]]) -> list[int]:
        """Execute requests in order and return the errno of each, 0 for success.

        A request is a type, flags, and the message after its nlmsghdr. A refused request does not stop the
        following ones. Raises KernelError when the socket fails; the outcome is then unknown.
        """
        outcomes: list[int] = []
        try:
            for start in range(0, len(requests), _REQUESTS_PER_SEND):
                outcomes += self._exchange(requests[start : start + _REQUESTS_PER_SEND])
        except OSError as error:
            self._socket.close()
            self._socket = _open()
            raise KernelError.about("netlink", error.errno) from error
        return outcomes

    def _exchange(self, requests: Sequence[tuple[int, int, bytes]]) -> list[int]:
        flags = abi.NLM_F_REQUEST | abi.NLM_F_ACK
        first = self._sequence + 1
        self._sequence = (self._sequence + len(requests)) & 0xFFFFFFFF
        self._socket.send(
            b"".join(
                HEADER.pack(HEADER.size + len(payload), kind, flags | more, first + position & 0xFFFFFFFF, 0)
                + payload
                for position, (kind, more, payload) in enumerate(requests)
            )
        )
        outcomes = [-1] * len(requests)
        while -1 in outcomes:
            size = self._receive()
            for answer, _, sequence, start, _ in messages(self.buffer, size):
                position = sequence - first & 0xFFFFFFFF
                if answer == abi.NLMSG_ERROR and position < len(outcomes):
                    outcomes[position] = -INT.unpack_from(self.buffer, start)[0]
        return outcomes

    def _converse(self, kind: int, flags: int, payload: bytes) -> Iterator[tuple[int, int, int, int]]:
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        expected = self._sequence
        self._socket.send(HEADER.pack(HEADER.size + len(payload), kind, flags, expected, 0) + payload)
        multipart = flags & abi.NLM_F_DUMP == abi.NLM_F_DUMP or flags & abi.NLM_F_ACK
        while True:
            size = self._receive()
            for answer, answer_flags, sequence, start, end in messages(self.buffer, size):
                if sequence != expected:
                    continue
                if answer in (abi.NLMSG_ERROR, abi.NLMSG_DONE):
                    self._raise_error(start, end)
                    return
                yield answer, answer_flags, start, end
                if not multipart:
                    return

    def _receive(self) -> int:
        """Receive the next datagram into the buffer and return its size in bytes."""
        size = self._socket.recv_into(self.buffer, 0, socket.MSG_TRUNC)
        if size > len(self.buffer):
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        return size

    def _raise_error(self, start: int, end: int) -> None:
        """Raise the error of an ERROR or DONE message, which carries an errno, negative or 0."""
        number = -INT.unpack_from(self.buffer, start)[0] if end - start >= INT.size else 0
        if number > 0:
            raise KernelError(number, f"netlink: {os.strerror(number)}")


def set_receive_buffer(target: socket.socket, size: int) -> None:
    """Set a socket's receive buffer to ``size`` bytes, or as close to it as the process is permitted."""
    try:
        target.setsockopt(socket.SOL_SOCKET, abi.SO_RCVBUFFORCE, size)
    except PermissionError:
        with contextlib.suppress(OSError):
            target.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def _open() -> socket.socket:
    try:
        route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, abi.NETLINK_ROUTE)
    except OSError as error:
        raise KernelError.about("netlink", error.errno or errno.EIO) from error
    # Keeps the kernel from repeating the request in a refusal.
    route.setsockopt(abi.SOL_NETLINK, abi.NETLINK_CAP_ACK, 1)
    timeout = struct.pack("ll", _ANSWER_TIMEOUT_S, 0)
    route.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
    return route
