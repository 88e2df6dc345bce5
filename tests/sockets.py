"""Socket options that Python has no name for."""

from __future__ import annotations

import socket
from typing import Final

_SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h


def force_receive_buffer(receiver: socket.socket, octets: int) -> None:
    """Give a socket a receive buffer of this size, beyond net.core.rmem_max too."""
    receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, octets)
