"""The service manager's protocol: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).

The service sends lines of ``NAME=value`` in a datagram to $NOTIFY_SOCKET. The manager passes descriptors to
the service, from number 3 on, each with a name: the sockets that it has bound for the service, and those that
the service's predecessor left in the manager's store. Without a manager nothing is sent and nothing is found.
"""

from __future__ import annotations

import array
import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Final

log = logging.getLogger(__name__)

FIRST_FD: Final = 3
"""SD_LISTEN_FDS_START."""
FDS_AT_ONCE: Final = 253
"""SCM_MAX_FD: descriptors that one datagram carries."""
SEND_TIMEOUT_S: Final = 1.0
"""Time for which a message may wait for room in the manager's queue."""
RECHECK_S: Final = 0.25
"""Interval between two checks while something is not alive, in seconds."""


class Notifier:
    """The service's end. A message that cannot be sent is dropped; the first one is logged."""

    def __init__(self, address: str | None) -> None:
        """``address`` is that of $NOTIFY_SOCKET: a path, ``@name`` for an abstract one, or None."""
        self.address = address or None
        self._failed = False

    def __bool__(self) -> bool:
        """Return whether there is a manager."""
        return self.address is not None

    def ready(self, status: str) -> None:
        """Report that the service is up, or that its new configuration is in force."""
        self.send("READY=1", f"STATUS={status}")

    def reloading(self, now_ns: int) -> None:
        """Report that a reload begins; it ends with :meth:`ready`.

        ``now_ns`` is a time of CLOCK_MONOTONIC after the signal that requested the reload: the manager uses
        it to distinguish this answer from an older one."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={now_ns // 1000}")

    def stopping(self, status: str = "stopping") -> None:
        """Report that the service is ending."""
        self.send("STOPPING=1", f"STATUS={status}")

    def store(self, name: str, fds: Sequence[int]) -> None:
        """Store copies of descriptors in the manager, for the next process of this service.

        They stay until they are removed, even when what they refer to is gone. Several descriptors may
        have one name; the next process receives ``fds`` under this name, in order. Raises ValueError for a
        name that the manager would not accept."""
        _check_name(name)
        for first in range(0, len(fds), FDS_AT_ONCE):
            self.send("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", fds=fds[first : first + FDS_AT_ONCE])

    def remove(self, name: str) -> None:
        """Have the manager close all descriptors that were stored under a name."""
        _check_name(name)
        self.send("FDSTOREREMOVE=1", f"FDNAME={name}")

    def send(self, *assignments: str, fds: Sequence[int] = ()) -> None:
        """Send one message, with copies of descriptors."""
        if self.address is None:
            return
        message = "\n".join(line.replace("\n", " ") for line in assignments).encode()
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(SEND_TIMEOUT_S)
                sender.sendmsg([message], control, 0, address)
        except OSError as error:
            if not self._failed:
                self._failed = True
                log.warning("no message reaches the service manager: %s: %s", self.address, error)


@dataclass(frozen=True, slots=True)
class Health:
    """State of the service."""

    alive: bool
    """True while the loop of every worker turns; the control plane's turns if this is evaluated at all."""
    status: str
    """One line for the user."""


async def attend(notifier: Notifier, interval_s: float, check: Callable[[], Health]) -> None:
    """Report at each interval that the service is alive, and each new status, until cancelled.

    While the service is not alive only its status is reported, and it is checked more often, so that a worker
    that is replaced in time causes no restart."""
    reported = None
    while True:
        health = check()
        message = [] if health.status == reported else [f"STATUS={health.status}"]
        reported = health.status
        if health.alive:
            message.append("WATCHDOG=1")
        if message:
            notifier.send(*message)
        await asyncio.sleep(interval_s if health.alive else min(interval_s, RECHECK_S))


def watchdog_s(environment: Mapping[str, str], pid: int) -> float | None:
    """Return the manager's watchdog timeout for this process in seconds; None when it has none."""
    try:
        microseconds = int(environment.get("WATCHDOG_USEC", "0"))
        addressee = int(environment.get("WATCHDOG_PID", str(pid)))
    except ValueError:
        return None
    return microseconds / 1e6 if microseconds > 0 and addressee == pid else None


@dataclass(frozen=True, slots=True)
class Inherited:
    """A descriptor that the manager passed."""

    fd: int
    name: str
    """FileDescriptorName= of a socket unit, FDNAME of the store, or ``unknown``."""


def inherited(environment: Mapping[str, str], pid: int) -> tuple[Inherited, ...]:
    """Return the descriptors passed to this process, by $LISTEN_PID, $LISTEN_FDS and $LISTEN_FDNAMES."""
    try:
        addressee = int(environment.get("LISTEN_PID", "0"))
        count = int(environment.get("LISTEN_FDS", "0"))
    except ValueError:
        return ()
    if addressee != pid or count <= 0:
        return ()
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    if "LISTEN_FDNAMES" not in environment or len(names) != count:
        names = ["unknown"] * count
    return tuple(Inherited(FIRST_FD + index, name) for index, name in enumerate(names))


def take_inherited(environment: MutableMapping[str, str] = os.environ) -> tuple[Inherited, ...]:
    """Return the descriptors passed to this process, once.

    They and the variables are not inherited by child processes."""
    found = inherited(environment, os.getpid())
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environment.pop(name, None)
    for each in found:
        os.set_inheritable(each.fd, False)
    return found


def listener(found: Iterable[Inherited], name: str) -> socket.socket | None:
    """Return the listening socket that was passed under a name, or None. The caller closes it."""
    for each in found:
        if each.name == name and _listens(each.fd):
            return socket.socket(fileno=each.fd)
    return None


def _listens(fd: int) -> bool:
    try:
        with socket.socket(fileno=os.dup(fd)) as copy:
            return copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    except OSError:
        return False


def _check_name(name: str) -> None:
    # fdname_is_valid() of systemd.
    if not 0 < len(name) <= 255 or not name.isascii() or not name.isprintable() or ":" in name:
        raise ValueError(f"{name!r} is not a name for the store: printable ASCII without ':' is allowed")
