"""Listening sockets of the HTTP servers."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any, Final

BACKLOG: Final = 1024
"""Connections that the kernel queues. A client beyond it would wait a second before it tries again."""

_BIND_FAULTS: Final = {
    errno.EADDRINUSE: " is in use by another program",
    errno.EADDRNOTAVAIL: " is no address of this machine",
    errno.EACCES: " needs root, or a port of 1024 or above",
}


Address = tuple[Any, ...]
"""An address of a socket: host and port and, with IPv6, flow information and zone."""


class ListenError(Exception):
    """A server cannot listen at its address. ``str()`` is one line for the user."""


def listen(key: str, host: str, port: int, current: socket.socket | None = None) -> socket.socket:
    """Return a socket that listens at an address: ``current`` if it does, otherwise a new one.

    A new socket may share its port with ``current``. Raises ListenError, whose message begins with ``key``,
    the configuration's key of the address. May block to resolve a host name."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        if current is not None and current.family == family and _is_at(current, address):
            return current
        try:
            return socket.create_server(address, family=family, backlog=BACKLOG)
        except OSError as error:
            if current is None or error.errno != errno.EADDRINUSE:
                raise
            return _listen_beside(current, family, address)
    except socket.gaierror:
        fault = f"{host!r} is neither an address nor a known host name"
    except OSError as error:
        code = error.errno or 0
        fault = host_port(host, port) + (_BIND_FAULTS.get(code) or f": {os.strerror(code)}")
    raise ListenError(f"{key}: {fault}")


def host_port(host: str, port: int) -> str:
    """Return an address as a URL has it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_at(listener: socket.socket, address: Address) -> bool:
    host, port, *more = listener.getsockname()
    return (host, *more) == (address[0], *address[2:]) and address[1] in (0, port)


def _listen_beside(current: socket.socket, family: int, address: Address) -> socket.socket:
    """Return a socket for an address that includes ``current``'s or is included: 0.0.0.0 beside 127.0.0.1.

    The kernel lets two sockets have one port if both have SO_REUSEPORT while the second is bound."""
    current.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener = socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=True)
    finally:
        current.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
    return listener
