"""The API on the control socket."""

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
from epaird.control.http.serving import Connection, Limits, Server
from epaird.control.operations import Operations, Reloading

LIMITS: Final = Limits(connections=64, exchange_seconds=75, stop_seconds=1.0)


class ControlConnection(Connection):
    """One client's connection."""

    peer: Peer
    """Who connected."""

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
        """Serve on ``listener``, which is the server's to close, for root and the group of this number.

        ``file`` is what is to be removed when it stops; without ``reloads`` nothing can be reloaded."""
        self._file = file
        self._api = Api(
            operations, reloads, allowed=lambda peer: may_control(peer, group), clock=time.monotonic
        )
        super().__init__(listener, self._api, LIMITS, ControlConnection)

    @classmethod
    def bind(cls, path: Path, operations: Operations, reloads: Reloading | None = None) -> ControlServer:
        """A server that listens already and answers once started: until then its clients wait.

        Raises :class:`~epaird.control.http.serving.ListenError` when it cannot listen there, because another
        daemon does, for example."""
        group = group_id()
        file = SocketFile(path, group)
        return cls(file.listener, operations, group, file, reloads)

    @classmethod
    def inherit(
        cls, listener: socket.socket, operations: Operations, reloads: Reloading | None = None
    ) -> ControlServer:
        """A server on a socket that somebody else has bound, and keeps when it stops."""
        return cls(listener, operations, group_id(), None, reloads)

    @classmethod
    def resume(
        cls, listener: socket.socket, path: Path, operations: Operations, reloads: Reloading | None = None
    ) -> ControlServer:
        """A server on a socket that this very process has bound, and handed over to itself."""
        return cls(listener, operations, group_id(), SocketFile.resumed(path, listener), reloads)

    def hand_over(self) -> tuple[bool, int]:
        """Leave the file where it is, and give a copy of the listening socket, for who goes on with it.

        Also, whether the file is ours."""
        ours, self._file = self._file is not None, None
        return ours, self.copy()

    async def stop(self, patience_s: float | None = None) -> None:
        """Take the socket's file away, let changes under way end or undo them, end every stream.

        Once stopped there is nothing left to stop."""
        if self._file is not None:
            self._file.remove()
            self._file = None
        self._api.changes.refuse()
        await self._api.streams.close()
        await super().stop(patience_s)

    async def give_up(self) -> None:
        """Cancel changes under way."""
        await self._api.changes.cancel()
