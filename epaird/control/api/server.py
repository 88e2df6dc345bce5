"""The server of the API on the control socket."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from typing import Final

from epaird.control.api.application import Api
from epaird.control.api.credentials import Peer, group_id, may_control, peer_of
from epaird.control.api.problems import MEDIA_TYPE, of_status
from epaird.control.api.socketfile import SocketFile
from epaird.control.http.server import Connection, Limits, Server
from epaird.control.operations import Operations, Reloading

LIMITS: Final = Limits(connections=64, exchange_seconds=75, stop_seconds=1.0)


class ControlConnection(Connection):
    """One client's connection."""

    peer: Peer
    """Credentials of the client."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.peer = peer_of(transport.get_extra_info("socket"))
        super().connection_made(transport)

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
    ) -> None:
        """Serve on ``listener``, which the server closes, for root and the members of ``group``.

        ``file`` is removed when the server stops. Without ``reloads`` nothing can be reloaded."""
        self._file = file
        self._api = Api(
            operations, reloads, allowed=lambda peer: may_control(peer, group), clock=time.monotonic
        )
        super().__init__(listener, self._api, LIMITS, ControlConnection)

    @classmethod
    def bind(cls, path: Path, operations: Operations, reloads: Reloading | None = None) -> ControlServer:
        """Return a server that listens at ``path``; its clients wait until it is started.

        Raises ListenError if it cannot listen there, for example because another daemon does."""
        group = group_id()
        file = SocketFile(path, group)
        return cls(file.listener, operations, group, file, reloads)

    @classmethod
    def inherit(
        cls, listener: socket.socket, operations: Operations, reloads: Reloading | None = None
    ) -> ControlServer:
        """Return a server on a socket that another process has bound and keeps."""
        return cls(listener, operations, group_id(), None, reloads)

    @classmethod
    def resume(
        cls, listener: socket.socket, path: Path, operations: Operations, reloads: Reloading | None = None
    ) -> ControlServer:
        """Return a server on a socket that this process bound before it executed itself again."""
        return cls(listener, operations, group_id(), SocketFile.resumed(path, listener), reloads)

    def hand_over(self) -> tuple[bool, int]:
        """Return a copy of the listening socket for the next control plane, and leave the socket's file.

        The first value is True if this server created the file."""
        own, self._file = self._file is not None, None
        return own, self.copy()

    async def stop(self, patience_s: float | None = None) -> None:
        """Remove the socket's file, end every stream, and wait for changes under way or cancel them.

        A server that has stopped already is left as it is."""
        if self._file is not None:
            self._file.remove()
            self._file = None
        self._api.changes.refuse()
        await self._api.streams.close()
        await super().stop(patience_s)

    async def abandon(self) -> None:
        """Cancel changes under way."""
        await self._api.changes.cancel()
