"""Who is at the other end of the control socket, by the kernel's word, and whether it may control us."""

from __future__ import annotations

import grp
import os
import socket
import struct
from dataclasses import dataclass, field
from typing import Any, Final

GROUP: Final = "epaird"
"""Its members may control the daemon."""

SO_PEERGROUPS: Final = 59
"""asm-generic/socket.h; Linux 4.13."""

_UCRED: Final = struct.Struct("iII")
"""struct ucred of linux/socket.h."""

_GROUPS_BYTES: Final = 1024
"""The most that Python's getsockopt() takes: 256 groups."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A process, as it was when it connected."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] = field(default=frozenset())
    """Its supplementary groups."""


def group_id() -> int | None:
    """The group's number; None when this machine has no such group."""
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None


def peer_of(connection: socket.socket | Any) -> Peer:  # noqa: ANN401 - an event loop's stand-in for one
    """Who connected.  Raises OSError."""
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    try:
        groups = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, _GROUPS_BYTES)
    except OSError:  # more of them than fit
        groups = b""
    return Peer(pid, uid, gid, frozenset(struct.unpack(f"{len(groups) // 4}I", groups)))


def may_control(peer: Peer, group: int | None) -> bool:
    """Whether a process is root's, the daemon's own user's, or a member of this group."""
    return peer.uid in (0, os.geteuid()) or (group is not None and group in {peer.gid, *peer.groups})
