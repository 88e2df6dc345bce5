"""Netlink messages by struct: what watching, statistics and requests share.

pyroute2 decodes every attribute of a message into objects; watching and statistics want a handful of the
sixty, often, and of many devices.
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
INT: Final = struct.Struct("=i")

BUFFER_BYTES: Final = 1 << 16
"""More than the kernel puts into one datagram of a dump (32 KB)."""
_AT_ONCE: Final = 64
"""Requests sent together: the socket has room for the answers to some 250."""
_ANSWER_SECONDS: Final = 5
"""The kernel answers within the system call; this is for the case that it does not."""


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to its alignment."""
    length = ATTRIBUTE.size + len(payload)
    return ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def attributes(buffer: bytearray, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(type, start, end) of each attribute's payload in ``buffer[start:end]``."""
    while start + ATTRIBUTE.size <= end:
        length, kind = ATTRIBUTE.unpack_from(buffer, start)
        if length < ATTRIBUTE.size:
            return
        yield kind & abi.NLA_TYPE_MASK, start + ATTRIBUTE.size, start + length
        start += (length + 3) & ~3


def messages(buffer: bytearray, size: int) -> Iterator[tuple[int, int, int, int, int]]:
    """(type, flags, sequence number, start, end) of each message's payload in a datagram."""
    start = 0
    while start + HEADER.size <= size:
        length, kind, flags, sequence, _ = HEADER.unpack_from(buffer, start)
        if length < HEADER.size:
            return
        yield kind, flags, sequence, start + HEADER.size, start + length
        start += (length + 3) & ~3


class RouteSocket:
    """Requests to rtnetlink of the namespace this was made in, one at a time or many together."""

    def __init__(self, buffer_bytes: int = BUFFER_BYTES) -> None:
        """``buffer_bytes`` is how much of an answer is read at a time: the kernel writes as much of a dump in
        one system call, up to 32 KB.  Raises KernelError when there can be no such socket."""
        self.buffer = bytearray(buffer_bytes)
        self._sequence = 0
        self._socket = _open()

    def close(self) -> None:
        """Close the socket; a second call does nothing."""
        self._socket.close()

    def request(self, kind: int, flags: int, payload: bytes) -> Iterator[tuple[int, int, int, int]]:
        """(type, flags, start, end) of each message of the answer; its payload is in ``buffer``.

        Must be read to its end.  Raises KernelError with the kernel's errno; EMSGSIZE when it does not fit.
        """
        try:
            yield from self._converse(kind, flags | abi.NLM_F_REQUEST, payload)
        except OSError as error:
            # Whatever of the answer is still to come must not meet the next request.
            self._socket.close()
            self._socket = _open()
            raise KernelError.about("netlink", error.errno) from error

    def carry_out(self, requests: Sequence[tuple[int, int, bytes]]) -> list[int]:
        """Have requests carried out in their order, whatever becomes of each: its errno, 0 for none.

        A request is a type, flags, and the message behind its nlmsghdr.  Raises KernelError when the socket
        fails; then nothing is known of what came of them.
        """
        outcomes: list[int] = []
        try:
            for start in range(0, len(requests), _AT_ONCE):
                outcomes += self._exchange(requests[start : start + _AT_ONCE])
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
        mine = self._sequence
        self._socket.send(HEADER.pack(HEADER.size + len(payload), kind, flags, mine, 0) + payload)
        several = flags & abi.NLM_F_DUMP == abi.NLM_F_DUMP or flags & abi.NLM_F_ACK
        while True:
            size = self._receive()
            for answer, answer_flags, sequence, start, end in messages(self.buffer, size):
                if sequence != mine:
                    continue
                if answer in (abi.NLMSG_ERROR, abi.NLMSG_DONE):
                    self._raise_error(start, end)
                    return
                yield answer, answer_flags, start, end
                if not several:
                    return

    def _receive(self) -> int:
        """The next datagram, into the buffer: its bytes."""
        size = self._socket.recv_into(self.buffer, 0, socket.MSG_TRUNC)
        if size > len(self.buffer):
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        return size

    def _raise_error(self, start: int, end: int) -> None:
        """An ERROR message carries an errno, negative or 0; so does DONE."""
        number = -INT.unpack_from(self.buffer, start)[0] if end - start >= INT.size else 0
        if number > 0:
            raise KernelError(number, f"netlink: {os.strerror(number)}")


def receive_buffer(to: socket.socket, size: int) -> None:
    """Let a socket hold ``size`` bytes not yet read, or as much of it as is permitted."""
    try:
        to.setsockopt(socket.SOL_SOCKET, abi.SO_RCVBUFFORCE, size)
    except PermissionError:
        with contextlib.suppress(OSError):
            to.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def _open() -> socket.socket:
    try:
        route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, abi.NETLINK_ROUTE)
    except OSError as error:
        raise KernelError.about("netlink", error.errno or errno.EIO) from error
    # A refusal need not repeat the request.
    route.setsockopt(abi.SOL_NETLINK, abi.NETLINK_CAP_ACK, 1)
    timeout = struct.pack("ll", _ANSWER_SECONDS, 0)
    route.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
    return route
