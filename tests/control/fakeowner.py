"""The owner of a device of the machine without a kernel.

A TAP is one end of a socketpair whose packets keep frames whole, and which returns EAGAIN when its reader
does not read.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

FRAME_BYTES: Final = 64
"""Length of every frame that an owner sends, with its header: waiting bytes can be counted as frames."""


def numbered(number: int) -> bytes:
    """Return a frame that contains its number."""
    header = bytes(10) + b"\x02\0\0\0\0\x0b" + b"\x02\0\0\0\0\x0a" + b"\x88\xb5"
    return (header + number.to_bytes(4, "big")).ljust(FRAME_BYTES, b"\0")


class Owner:
    """One queue of a device with its owner, in place of a namespace's network stack."""

    def __init__(self) -> None:
        self.end, self._device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.end.setblocking(False)
        self._device.setblocking(False)
        self.sent = 0
        self.received: list[bytes] = []

    def fileno(self) -> int:
        return self._device.fileno()

    def close(self) -> None:
        self._device.close()

    def sends(self, count: int = 1) -> None:
        """Send the next numbered frames; raises BlockingIOError when the ring is full."""
        for _ in range(count):
            self.end.send(numbered(self.sent))
            self.sent += 1

    def sends_all_it_can(self) -> None:
        """Send until the ring is full."""
        try:
            while True:
                self.sends()
        except BlockingIOError:
            return

    def receives(self) -> list[bytes]:
        """Receive what has been delivered; return everything that was delivered since the start."""
        try:
            while packet := self.end.recv(1 << 17):
                self.received.append(packet)
        except BlockingIOError:
            pass
        return self.received

    def take(self) -> bytes:
        """Read a frame from the device, as a worker does."""
        return os.read(self.fileno(), 1 << 17)

    def deliver(self, count: int = 1) -> None:
        """Write frames to the device, as a worker does."""
        for _ in range(count):
            os.write(self.fileno(), numbered(0))

    @property
    def taken(self) -> int:
        """Number of frames that were read from the device."""
        return self.sent - _waiting(self._device)

    @property
    def delivered(self) -> int:
        """Number of frames that were written to the device."""
        return len(self.received) + (_waiting(self.end) if self.end.fileno() >= 0 else 0)

    @contextmanager
    def watched(self) -> Iterator[Watched]:
        """Provide a view of whether a process has the device open, even after the control plane closed it."""
        with socket.socket(fileno=os.dup(self.end.fileno())) as end:
            yield Watched(end)

    def vanish(self) -> None:
        """Make every read of the device fail from now on, as for a device that was deleted."""
        # Closed with something unread, the socketpair gives ECONNRESET to the other end.
        self.receives()
        os.write(self.fileno(), numbered(0))
        self.end.close()


@dataclass(frozen=True, slots=True)
class Watched:
    """A second descriptor of a device's other end."""

    end: socket.socket

    def closed_everywhere(self) -> bool:
        """Return whether no process has the device open any more."""
        try:
            while self.end.recv(1 << 17):
                pass
        except BlockingIOError:
            return False
        return True


def _waiting(end: socket.socket) -> int:
    (octets,) = struct.unpack("i", fcntl.ioctl(end, termios.FIONREAD, bytes(4)))
    frames, rest = divmod(octets, FRAME_BYTES)
    assert not rest, "every frame has the same size"
    return int(frames)
