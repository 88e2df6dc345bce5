"""Waiting for a server that runs in a thread of its own."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

DEADLINE = 30
"""Seconds after which a test gives up waiting; never a measure."""


def until(condition: Callable[[], object]) -> None:
    """Return once the condition holds; fail when it never does."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def until_closed(connection: socket.socket) -> bytes:
    """What still comes before the server ends the connection."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    finally:
        connection.close()
    return received
