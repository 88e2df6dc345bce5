"""The server of the API on the control socket."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path
from typing import Final

from epaird.control.api.application import Api
from epaird.control.api.credentials import Peer, group_id, may_control, peer_of
from epaird.control.api.problems import MEDIA_TYPE, of_status, problem
from epaird.control.api.socketfile import SocketFile
from epaird.control.http.accepting import Acceptor
from epaird.control.http.server import Connection, Limits, Server, answer_503, cut_silent
from epaird.control.machine.descriptors import Descriptors, Purpose
from epaird.control.machine.privatefiles import file_identity
from epaird.control.operations import Operations, Reloading

LIMITS: Final = Limits(connections=64, exchange_seconds=75, stop_seconds=1.0)
CONNECTIONS_MAX: Final = 256
"""Connections, those of streams and of requests under way included."""
OF_OTHERS_MAX: Final = 128
"""Of these, connections of users other than root, which root's own need not wait for."""
OF_USER_MAX: Final = 32
"""Of these, connections of one user."""


class ControlConnection(Connection):
    """One client's connection."""

    peer: Peer
    """Credentials of the client."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.peer = peer_of(transport.get_extra_info("socket"))
        super().connection_made(transport)
        # Several may have been admitted before the first of them began.
        of_user = [each for each in _control_connections(self.connections) if each.peer.uid == self.peer.uid]
        if self.peer.uid != 0 and len(of_user) > OF_USER_MAX:
            cut_silent(of_user)

    def malformed(self, message: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
        return [(b"content-type", MEDIA_TYPE.encode())], bytes(of_status(400, message).body)


class ControlServer(Server):
    """Serves the API at one path, from :meth:`start` to :meth:`stop`."""

    def __init__(
        self,
        listener: socket.socket,
        operations: Operations,
        group: int | None,
        file: SocketFile | None = None,
        reloads: Reloading | None = None,
        descriptors: Descriptors | None = None,
    ) -> None:
        """Serve on ``listener``, which the server closes, for root and the members of ``group``.

        ``file`` is removed when the server stops. Without ``reloads`` nothing can be reloaded."""
        self._file = file
        self._path = file.path if file is not None else Path(listener.getsockname())
        self._group = group
        self._found = file_identity(self._path)
        """The socket's file when this server was made."""
        self._second: Acceptor | None = None
        """Accepts on a socket of its own while that of another process has no file any more."""
        self._api = Api(
            operations, reloads, allowed=lambda peer: may_control(peer, group), clock=time.monotonic
        )
        super().__init__(listener, self._api, LIMITS, ControlConnection, descriptors)

    @classmethod
    def bind(
        cls,
        path: Path,
        operations: Operations,
        reloads: Reloading | None = None,
        descriptors: Descriptors | None = None,
    ) -> ControlServer:
        """Return a server that listens at ``path``; its clients wait until it is started.

        Raises ListenError if it cannot listen there, for example because another daemon does."""
        group = group_id()
        file = SocketFile(path, group)
        return cls(file.listener, operations, group, file, reloads, descriptors)

    @classmethod
    def inherit(
        cls,
        listener: socket.socket,
        operations: Operations,
        reloads: Reloading | None = None,
        descriptors: Descriptors | None = None,
    ) -> ControlServer:
        """Return a server on a socket that another process has bound and keeps."""
        return cls(listener, operations, group_id(), None, reloads, descriptors)

    @classmethod
    def resume(
        cls,
        listener: socket.socket,
        path: Path,
        operations: Operations,
        reloads: Reloading | None = None,
        descriptors: Descriptors | None = None,
    ) -> ControlServer:
        """Return a server on a socket that this process bound before it executed itself again."""
        file = SocketFile.resumed(path, listener)
        return cls(listener, operations, group_id(), file, reloads, descriptors)

    @property
    def has_file(self) -> bool:
        """True while clients find the socket at its path."""
        if self._file is not None:
            return self._file.exists
        return self._found is not None and file_identity(self._path) == self._found

    async def restore_file(self) -> None:
        """Listen at the path again, whose file others have removed; clients that are connected stay.

        Raises ListenError."""
        file = SocketFile(self._path, self._group)
        inherited, self._file = self._file is None, file
        acceptor = self._accepting(file.listener)
        if inherited:
            self._second = acceptor
        elif self._second is not None:
            second, self._second = self._second, acceptor
            await second.close(drain=True)
        else:
            before, self._acceptor, self.listener = self._acceptor, acceptor, file.listener
            if before is not None:
                await before.close(drain=True)

    def hand_over(self) -> list[tuple[bool, int]]:
        """Return copies of the listening sockets for the next control plane, and leave the socket's file.

        The first value of each is True if this server created its file."""
        own, self._file = self._file is not None, None
        if self._second is None:
            return [(own, self.copy())]
        return [(False, self.copy()), (True, os.dup(self._second.listener.fileno()))]

    async def stop(self, patience_s: float | None = None) -> None:
        """Remove the socket's file, end every stream, and wait for changes under way or cancel them.

        A server that has stopped already is left as it is."""
        if self._file is not None:
            self._file.remove()
            self._file = None
        if self._second is not None:
            second, self._second = self._second, None
            await second.close()
        self._api.changes.refuse()
        await self._api.streams.close()
        await super().stop(patience_s)

    async def abandon(self) -> None:
        """Cancel changes under way."""
        await self._api.changes.cancel()

    def turned_away(self, reason: str) -> bytes:
        """Return the answer to a client that is not admitted."""
        answer = problem(HTTPStatus.SERVICE_UNAVAILABLE, errno.EMFILE, f"{reason}: try again later")
        return answer_503(MEDIA_TYPE.encode(), bytes(answer.body))

    def _objection(self, connection: socket.socket) -> bytes | None:
        """Return the answer with which a new client is turned away; None admits it.

        A user with too many connections loses the one that has been silent longest, as the others do
        together; root is not concerned."""
        uid = peer_of(connection).uid
        found = _control_connections(self.connections)
        if len(found) >= CONNECTIONS_MAX and not cut_silent(found):
            return self.turned_away(f"{len(found)} clients are connected")
        if uid == 0:
            return self._make_room(Purpose.ROOT, [each for each in found if each.peer.uid == 0])
        others = [each for each in found if each.peer.uid != 0]
        of_user = [each for each in others if each.peer.uid == uid]
        if len(of_user) >= OF_USER_MAX and not cut_silent(of_user):
            return self.turned_away(f"user {uid} has {len(of_user)} connections")
        if len(others) >= OF_OTHERS_MAX and not cut_silent(others):
            return self.turned_away(f"{len(others)} clients are connected")
        return self._make_room(Purpose.CLIENT, others)


def _control_connections(connections: Iterable[asyncio.Protocol]) -> list[ControlConnection]:
    return [each for each in connections if isinstance(each, ControlConnection)]
