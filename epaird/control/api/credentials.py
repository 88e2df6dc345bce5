"""Credentials of the control socket's clients, as the kernel reports them, and the access check."""

from __future__ import annotations

import grp
import os
import socket
import struct
from dataclasses import dataclass, field
from typing import Any, Final

GROUP: Final = "epaird"
"""Group whose members may control the daemon."""

SO_PEERGROUPS: Final = 59
"""asm-generic/socket.h; Linux 4.13."""

_UCRED: Final = struct.Struct("iII")
"""struct ucred of linux/socket.h."""

_GROUPS_BYTES: Final = 1024
"""Largest buffer that Python's getsockopt() accepts: 256 groups."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A client's process, as it was when it connected."""

    pid: int
    """Process ID."""
    uid: int
    """Effective user ID."""
    gid: int
    """Effective group ID."""
    groups: frozenset[int] = field(default=frozenset())
    """Supplementary groups."""


def group_id() -> int | None:
    """Return the number of GROUP; None if the machine has no such group."""
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None


def peer_of(connection: socket.socket | Any) -> Peer:  # noqa: ANN401 - an event loop's wrapper of one
    """Return the credentials of a connection's client. Raises OSError."""
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    try:
        groups = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, _GROUPS_BYTES)
    except OSError:  # more groups than fit
        groups = b""
    return Peer(pid, uid, gid, frozenset(struct.unpack(f"{len(groups) // 4}I", groups)))


def may_control(peer: Peer, group: int | None) -> bool:
    """Return True for root, the daemon's own user and the members of a group."""
    return peer.uid in (0, os.geteuid()) or (group is not None and group in {peer.gid, *peer.groups})
