"""Accepting connections on a listening socket of the event loop, also while there are no descriptors.

libuv's own way to accept ends for good after an error, such as too many open files. Here a descriptor is held
for that case: it is closed, so that the connection can be accepted, told the reason, and closed. When even
that fails, because the whole machine has no files left, the socket is left alone for a moment: it stays
readable, and the loop would spin.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import select
import socket
from collections.abc import Callable
from typing import Final

from epaird.control.tasks import spawn

log = logging.getLogger(__name__)

AT_ONCE: Final = 4
"""Connections that are accepted in one turn of the loop. Those that are cut for them are closed in the next
one, so that so many more than usual may be open."""
LINGERING_MAX: Final = 4
"""Connections that are kept open after their clients were turned away, at most."""
LINGER_S: Final = 0.5
"""Time in seconds for which they are."""
PAUSE_S: Final = 0.1
"""Time in seconds for which a socket is left alone after an error."""
_NO_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE)
_AGAIN: Final = (errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.EINTR)
"""Errors of the connection, not of the socket (accept(2))."""


class Acceptor:
    """Accepts the connections of one socket, from :meth:`start` to :meth:`close`."""

    def __init__(
        self,
        listener: socket.socket,
        connect: Callable[[], asyncio.Protocol],
        objection: Callable[[socket.socket], bytes | None],
        no_descriptors: Callable[[], bytes],
    ) -> None:
        """``connect`` returns the protocol of a new connection. ``objection`` returns the answer with which
        one is turned away, or None; ``no_descriptors`` returns that for want of descriptors."""
        self.listener = listener
        self._connect = connect
        self._objection = objection
        self._no_descriptors = no_descriptors
        self._held = _held()
        self._resumption: asyncio.TimerHandle | None = None
        self._beginning: set[asyncio.Task[object]] = set()
        self._failed = False
        self._lingering: dict[socket.socket, asyncio.TimerHandle] = {}
        """Connections that were turned away and not closed yet."""

    def start(self) -> None:
        """Accept connections, also those that have waited."""
        self.listener.setblocking(False)
        asyncio.get_running_loop().add_reader(self.listener.fileno(), self._accept)

    async def close(self, *, drain: bool = False) -> None:
        """Accept no more, and close the socket; connections that were accepted begin first.

        With ``drain`` those that wait to be accepted are accepted as well."""
        while drain and select.select([self.listener], [], [], 0)[0] and self._accept():
            pass
        if self._resumption is not None:
            self._resumption.cancel()
            self._resumption = None
        if self.listener.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self.listener.fileno())
            self.listener.close()
        if self._held is not None:
            os.close(self._held)
            self._held = None
        for connection in tuple(self._lingering):
            self._leave(connection)
        while self._beginning:
            await asyncio.wait(tuple(self._beginning))

    def _accept(self) -> bool:
        """Accept some connections; return False after an error."""
        for _ in range(AT_ONCE):
            try:
                connection, _ = self.listener.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in _AGAIN:
                    continue
                if error.errno not in _NO_DESCRIPTORS or not self._turn_one_away():
                    self._pause(error)
                    return False
            else:
                self._failed = False
                self._begin(connection)
        return True

    def _begin(self, connection: socket.socket) -> None:
        try:
            answer = self._objection(connection)
        except OSError:  # its client has gone
            connection.close()
            return
        connection.setblocking(False)
        if answer is not None:
            self._turn_away(connection, answer)
            return
        loop = asyncio.get_running_loop()
        task = spawn(self._serve(loop, connection), "a new connection")
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _serve(self, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
        try:
            await loop.connect_accepted_socket(self._connect, connection)
        except OSError as error:  # its client has gone
            log.debug("a connection ended before it began: %s", error)
            connection.close()

    def _turn_one_away(self) -> bool:
        """Accept one connection with the descriptor that is held for it; return whether that succeeded."""
        if self._held is None:
            self._held = _held()
        if self._held is None:
            return False
        os.close(self._held)
        self._held = None
        try:
            connection, _ = self.listener.accept()
        except OSError:
            return False
        else:
            _send(connection, self._no_descriptors())
            connection.close()
            return True
        finally:
            self._held = _held()

    def _turn_away(self, connection: socket.socket, answer: bytes) -> None:
        """Send an answer, and close once the client has sent its request or LINGER_S later.

        The kernel resets a connection that is closed with bytes that nobody has read."""
        _send(connection, answer)
        if len(self._lingering) >= LINGERING_MAX:
            connection.close()
            return
        loop = asyncio.get_running_loop()
        loop.add_reader(connection.fileno(), self._leave, connection)
        self._lingering[connection] = loop.call_later(LINGER_S, self._leave, connection)

    def _leave(self, connection: socket.socket) -> None:
        self._lingering.pop(connection).cancel()
        asyncio.get_running_loop().remove_reader(connection.fileno())
        with connection, contextlib.suppress(OSError):
            while connection.recv(1 << 16):
                pass

    def _pause(self, error: OSError) -> None:
        if not self._failed:
            self._failed = True
            log.warning("no client can connect for the moment: %s", error.strerror)
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.listener.fileno())
        self._resumption = loop.call_later(PAUSE_S, self.start)


def _held() -> int | None:
    """Return a descriptor that serves no other purpose; None if there is none left."""
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _send(connection: socket.socket, answer: bytes) -> None:
    """Send an answer, as far as that is possible at once, and the end."""
    with contextlib.suppress(OSError):
        connection.setblocking(False)
        connection.send(answer)
        connection.shutdown(socket.SHUT_WR)
