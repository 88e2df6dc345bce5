"""Many datagrams per system call: sendmmsg() and recvmmsg(), which Python does not provide.

All memory is allocated once. Each datagram begins with a sequence number of 64 bits, so that the receiver can
detect losses and reordering. The numbers of a whole batch are written and read by one slice of a memoryview,
because a loop over the datagrams would cost more than sending them.
"""

from __future__ import annotations

import array
import ctypes
import errno
import os
import socket
from collections.abc import Iterator
from typing import Final

from epaird.kernel import abi
from epaird.kernel.recvmmsg import IoVec, MmsgHdr

NUMBER_BYTES: Final = 8
"""Size of a sequence number."""

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_SEND_HARMLESS: Final = frozenset({errno.ENOBUFS, errno.EAGAIN, errno.ECONNREFUSED})
"""Errors after which the kernel may accept the next datagram."""
_RECEIVE_HARMLESS: Final = frozenset({errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED})
"""Errors that mean that no datagram was received."""

_LIBC.sendmmsg.argtypes = _LIBC.recvmmsg.argtypes = (
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_uint,
    ctypes.c_int,
    ctypes.c_void_p,
)


class Batch:
    """Messages of one size, consecutive in memory, for sendmmsg() or recvmmsg().

    A message is one datagram, or ``segments`` coalesced ones, which the kernel splits on sending
    (UDP_SEGMENT) or has coalesced on receiving (UDP_GRO).
    """

    def __init__(self, messages: int, size: int, segments: int = 1) -> None:
        """``size`` is that of a datagram in bytes: at least 8, with several segments a multiple of 8.

        Raises ValueError for other sizes.
        """
        if size < NUMBER_BYTES or (segments > 1 and size % NUMBER_BYTES):
            raise ValueError(f"no room for numbers in datagrams of {size} bytes, {segments} in a message")
        self.segments = segments
        self._size = size
        slot = -(-size * segments // NUMBER_BYTES) * NUMBER_BYTES
        self._slot_words = slot // NUMBER_BYTES
        self._stride = size // NUMBER_BYTES if segments > 1 else self._slot_words
        payload = bytearray(slot * messages)
        headers = bytearray(ctypes.sizeof(MmsgHdr) * messages)
        self._words = memoryview(payload).cast("Q")
        self._lengths = memoryview(headers).cast("I")[MmsgHdr.len.offset // 4 :: ctypes.sizeof(MmsgHdr) // 4]
        self._vectors = (IoVec * messages)()
        self._headers = (MmsgHdr * messages).from_buffer(headers)
        self._messages = messages
        base = ctypes.addressof(ctypes.c_char.from_buffer(payload))
        for index in range(messages):
            self._vectors[index] = IoVec(base + index * slot, size * segments)
            header = self._headers[index].hdr
            header.iov = ctypes.addressof(self._vectors) + index * ctypes.sizeof(IoVec)
            header.iovlen = 1
        self._address = ctypes.addressof(self._headers)

    def send(self, outgoing: socket.socket, number: int) -> int:
        """Send a batch on a connected socket and return how many datagrams the kernel accepted.

        The datagrams are numbered from ``number``. Raises OSError for errors that will not pass.
        """
        count = self._messages * self.segments
        self._words[:: self._stride] = memoryview(array.array("Q", range(number, number + count)))
        done: int = _LIBC.sendmmsg(outgoing.fileno(), self._address, self._messages, 0, None)
        if done < 0:
            _raise_unless(_SEND_HARMLESS)
            return 0
        return done * self.segments

    def receive(self, incoming: socket.socket, flags: int) -> int:
        """Receive and return the number of messages, 0 when none was pending. Raises OSError."""
        done: int = _LIBC.recvmmsg(incoming.fileno(), self._address, self._messages, flags, None)
        if done < 0:
            _raise_unless(_RECEIVE_HARMLESS)
            return 0
        return done

    def numbers(self, messages: int) -> list[int]:
        """Return the numbers of the datagrams in the first messages, in the order of arrival."""
        if self.segments == 1:
            return self._words[: messages * self._slot_words : self._stride].tolist()
        return [number for numbers in self._coalesced(messages) for number in numbers]

    def _coalesced(self, messages: int) -> Iterator[list[int]]:
        for index, length in enumerate(self._lengths[:messages].tolist()):
            first = index * self._slot_words
            datagrams = -(-length // self._size)
            yield self._words[first : first + datagrams * self._stride : self._stride].tolist()


def enable_segmentation(outgoing: socket.socket, size: int) -> None:
    """Make the kernel split sent messages into datagrams of ``size`` bytes (UDP_SEGMENT)."""
    outgoing.setsockopt(socket.IPPROTO_UDP, abi.UDP_SEGMENT, size)


def enable_gro(incoming: socket.socket) -> None:
    """Allow the kernel to deliver several datagrams of a sender as one message (UDP_GRO)."""
    incoming.setsockopt(socket.IPPROTO_UDP, abi.UDP_GRO, 1)


def _raise_unless(harmless: frozenset[int]) -> None:
    number = ctypes.get_errno()
    if number not in harmless:
        raise OSError(number, os.strerror(number))
