"""The process that has sent a message over a UNIX socket, as the kernel reports it (unix(7)).

What a process writes about itself may be wrong, and a process id may be another process's by the time it is
used. The kernel attaches the sender's process id and user to a message (SCM_CREDENTIALS), and since Linux 6.5
also a pidfd of it (SCM_PIDFD), which refers to that process for ever. A process without privileges cannot
forge either.

With an older kernel a pidfd is opened by process id, and then the process is asked for one more message. A
process keeps its id until it has ended, so when a message with the same id in its credentials is sent *after*
the pidfd was opened, the pidfd is that of the sender. It does not help the sender to pass the socket to
another process: that one's messages have another id.

SO_PEERCRED and SO_PEERPIDFD are of no use to identify a process that listens: they report the process that
called listen(), which for a worker is a control plane that is gone.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import select
import signal
import socket
import struct
from dataclasses import dataclass
from typing import Final

from epaird.kernel import abi

PACKET_MAX: Final = 65536
"""Bytes of the largest packet that is received."""
_FDS_MAX: Final = 253
"""SCM_MAX_FD (net/scm.h)."""
_UCRED: Final = struct.Struct("iII")
"""struct ucred: process id, user id, group id."""


@dataclass(frozen=True, slots=True)
class Sender:
    """The process that has sent a message."""

    pid: int
    """Its process id when it sent the message; 0 when it is not visible from here."""
    uid: int
    """Its user id then."""
    pidfd: int | None
    """A pidfd, which the receiver has to close; None when the kernel passes none."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet with everything that came with it."""

    data: bytes
    """The bytes; empty when the other side has closed its end."""
    fds: list[int]
    """Descriptors that the sender passed, which the receiver has to close."""
    sender: Sender | None
    """Its sender; None when the kernel does not report it."""
    cut: bool
    """True when data or descriptors are missing: there were too many, or no more files can be opened."""


def report_senders(connection: socket.socket, on: bool) -> None:
    """Have :func:`receive_packet` report the sender of each packet that is sent from now on, or not."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, on)
    pass_pidfds(connection, on)


def pass_pidfds(connection: socket.socket, on: bool) -> None:
    """Have a pidfd come with each packet, or not. Does nothing before Linux 6.5."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, abi.SO_PASSPIDFD, on)
    except OSError as error:
        if error.errno not in (errno.ENOPROTOOPT, errno.EINVAL):
            raise


def receive_packet(connection: socket.socket) -> Packet:
    """Return the next packet. Raises OSError."""
    rights = array.array("i")
    room = sum(map(socket.CMSG_SPACE, (_FDS_MAX * rights.itemsize, _UCRED.size, rights.itemsize)))
    data, ancillary, flags, _ = connection.recvmsg(PACKET_MAX, room, socket.MSG_CMSG_CLOEXEC)
    credentials: tuple[int, int, int] | None = None
    pidfd: int | None = None
    for level, kind, value in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_RIGHTS:
            rights.frombytes(value[: len(value) - len(value) % rights.itemsize])
        elif kind == socket.SCM_CREDENTIALS and len(value) >= _UCRED.size:
            credentials = _UCRED.unpack_from(value)
        elif kind == abi.SCM_PIDFD and len(value) >= rights.itemsize:
            (number,) = struct.unpack_from("i", value)
            pidfd = number if number >= 0 else None  # an error number: the process has ended
    sender = None
    if credentials is not None:
        sender = Sender(credentials[0], credentials[1], pidfd)
    elif pidfd is not None:
        os.close(pidfd)
    cut = bool(flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC))
    return Packet(data, list(rights), sender, cut)


def open_process(pid: int) -> int | None:
    """Return a pidfd of the process with this id; None when there is none."""
    try:
        return os.pidfd_open(pid)
    except (OSError, OverflowError):
        return None


def has_ended(pidfd: int, patience_s: float = 0) -> bool:
    """Return whether a process has ended, or does within ``patience_s`` seconds."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(int(patience_s * 1000)))


def kill_process(pidfd: int, patience_s: float) -> None:
    """Kill a process, wait for its end ``patience_s`` seconds at most, and reap it if it is a child.

    Raises OSError when this process may not kill it."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    if has_ended(pidfd, patience_s):
        reap_process(pidfd)


def reap_process(pidfd: int) -> int:
    """Return the exit status of a process that has ended, negative for a signal, and reap it.

    It is 0 when it is not known, because the process is no child of this one."""
    try:
        found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return 0
    if found is None:
        return 0
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
