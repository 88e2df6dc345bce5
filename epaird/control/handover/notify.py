"""What a service and its manager tell each other: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).

The service sends lines of ``NAME=value`` in a datagram to $NOTIFY_SOCKET.  The manager passes it
descriptors, from number 3 on, with a name each: the sockets it listens on for the service, and those
that the service's predecessor left in the manager's store.  Without a manager all of it does nothing.
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
PATIENCE_S: Final = 1.0
"""How long a message may wait for room in the manager's queue."""
LOOK_AGAIN_S: Final = 0.25
"""How soon to look again while something is not alive."""


class Notifier:
    """The service's end.  A message that cannot be sent is lost, and said in the log once."""

    def __init__(self, address: str | None) -> None:
        """``address`` is that of $NOTIFY_SOCKET: a path, ``@name`` for an abstract one, or None."""
        self.address = address or None
        self._failed = False

    def __bool__(self) -> bool:
        """Whether anybody listens."""
        return self.address is not None

    def ready(self, status: str) -> None:
        """The service is up, or has its new configuration in force."""
        self.send("READY=1", f"STATUS={status}")

    def reloading(self, now_ns: int) -> None:
        """A reload begins, until :meth:`ready`.  ``now_ns`` is of CLOCK_MONOTONIC, not before the signal
        that asked for it: by this the manager tells an answer from an older one."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={now_ns // 1000}")

    def stopping(self, status: str = "stopping") -> None:
        """The service begins to end."""
        self.send("STOPPING=1", f"STATUS={status}")

    def store(self, name: str, fds: Sequence[int]) -> None:
        """Leave copies of descriptors with the manager, for the next process of this service.

        They stay until they are removed, whatever becomes of what they refer to.  Names are unique to no
        one: each of ``fds`` comes back under this one, in order.  Raises ValueError for a name that the
        manager would not take."""
        _check_name(name)
        for first in range(0, len(fds), FDS_AT_ONCE):
            self.send("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", fds=fds[first : first + FDS_AT_ONCE])

    def remove(self, name: str) -> None:
        """Have the manager close all that was stored under a name."""
        _check_name(name)
        self.send("FDSTOREREMOVE=1", f"FDNAME={name}")

    def send(self, *assignments: str, fds: Sequence[int] = ()) -> None:
        """One message, with copies of descriptors."""
        if self.address is None:
            return
        message = "\n".join(line.replace("\n", " ") for line in assignments).encode()
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(PATIENCE_S)
                sender.sendmsg([message], control, 0, address)
        except OSError as error:
            if not self._failed:
                self._failed = True
                log.warning("the service manager cannot be told: %s: %s", self.address, error)


@dataclass(frozen=True, slots=True)
class Health:
    """How the service is."""

    alive: bool
    """Every worker's own loop turns; the control plane's does if this can be asked."""
    status: str
    """One line for people."""


async def attend(notifier: Notifier, interval_s: float, look: Callable[[], Health]) -> None:
    """For ever: tell the manager at each interval that the service is alive, and when its status changes.

    While it is not, nothing is said but the status, and it is looked at more often, so that a worker that
    is back in time costs no restart."""
    said = None
    while True:
        health = look()
        news = [] if health.status == said else [f"STATUS={health.status}"]
        said = health.status
        if health.alive:
            news.append("WATCHDOG=1")
        if news:
            notifier.send(*news)
        await asyncio.sleep(interval_s if health.alive else min(interval_s, LOOK_AGAIN_S))


def watchdog_s(environment: Mapping[str, str], pid: int) -> float | None:
    """Seconds within which the manager wants a sign of life of this process; None when it wants none."""
    try:
        microseconds = int(environment.get("WATCHDOG_USEC", "0"))
        meant = int(environment.get("WATCHDOG_PID", str(pid)))
    except ValueError:
        return None
    return microseconds / 1e6 if microseconds > 0 and meant == pid else None


@dataclass(frozen=True, slots=True)
class Inherited:
    """A descriptor that the manager passed."""

    fd: int
    name: str
    """FileDescriptorName= of a socket unit, FDNAME of the store, or ``unknown``."""


def inherited(environment: Mapping[str, str], pid: int) -> tuple[Inherited, ...]:
    """What $LISTEN_PID, $LISTEN_FDS and $LISTEN_FDNAMES say of the descriptors passed to this process."""
    try:
        meant = int(environment.get("LISTEN_PID", "0"))
        count = int(environment.get("LISTEN_FDS", "0"))
    except ValueError:
        return ()
    if meant != pid or count <= 0:
        return ()
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    if "LISTEN_FDNAMES" not in environment or len(names) != count:
        names = ["unknown"] * count
    return tuple(Inherited(FIRST_FD + index, name) for index, name in enumerate(names))


def take_inherited(environment: MutableMapping[str, str] = os.environ) -> tuple[Inherited, ...]:
    """What was passed to this process, once: no child shall inherit it or take it for its own."""
    found = inherited(environment, os.getpid())
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environment.pop(name, None)
    for each in found:
        os.set_inheritable(each.fd, False)
    return found


def listener(found: Iterable[Inherited], name: str) -> socket.socket | None:
    """The listening socket that was passed under a name, which becomes the caller's; None: there is none."""
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
        raise ValueError(f"{name!r} is not a name of the store: printable ASCII without ':' is allowed")
