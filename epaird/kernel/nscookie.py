"""The cookie of a network namespace: a number that no other namespace has had since the machine started.

Inode numbers and names are used again as soon as a namespace is gone; the kernel never uses a cookie again.
"""

from __future__ import annotations

import secrets
import socket
import struct
from typing import Final

from epaird.kernel import abi

_COOKIE: Final = struct.Struct("=Q")


def known_cookie() -> int:
    """Return the cookie of the calling thread's namespace, 64 bits; 0 when the kernel has none (before Linux
    5.14)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        try:
            found = any_socket.getsockopt(socket.SOL_SOCKET, abi.SO_NETNS_COOKIE, _COOKIE.size)
        except OSError:
            return 0
    (number,) = _COOKIE.unpack(found)
    return int(number)


def cookie() -> int:
    """Return the cookie of the calling thread's namespace, 64 bits.

    Where the kernel has none, the number is random, and another one at every call."""
    return known_cookie() or secrets.randbits(64)
