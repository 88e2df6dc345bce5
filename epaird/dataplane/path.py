"""What forwarding has in common for cables and loopbacks: when is read, and what becomes of what waits.

Who pays for a frame that does not arrive:

- too long or too short, or the peer is down or gone: its sender, ``oerrors``;
- refused by the kernel, or spoiled while it waited in the queue: its receiver, ``ierrors``; it had been sent.
"""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, Protocol

from epaird.dataplane.burst import Burst
from epaird.dataplane.interface import Interface
from epaird.dataplane.queue import Queue
from epaird.ipc.counters import IERRORS, PEER_DOWN, WRITE_ERROR
from epaird.ipc.ledger import Words

DOWN: Final = (errno.EIO, errno.EBADFD, errno.EBADF)
"""The device is down, or gone, or there is none: the half is not plugged in."""


class Poller(Protocol):
    """What a path asks of the loop that calls it."""

    def start_reading(self, interface: Interface) -> None:
        """Have it transmit whenever its owner has sent something."""

    def stop_reading(self, interface: Interface) -> None:
        """Do not, any more."""

    def await_room(self, interface: Interface) -> None:
        """Call ``resume`` when its device takes frames again."""

    def await_restart(self) -> None:
        """Call ``restart`` soon."""

    def gone(self, interface: Interface) -> None:
        """Its device no longer exists."""


class Path(ABC):
    """Reads bursts and delivers them; subclasses know where to."""

    def __init__(self, queue: Queue, poller: Poller) -> None:
        self._queue = queue
        self._poller = poller
        self._burst = Burst()

    def transmit(self, source: Interface) -> bool:
        """Read one burst that ``source``'s owner sent, and deliver it.

        True when there was no more to read.  False when there may be, or when the queue has no room: then
        nothing was read and ``source`` is on the drain list."""
        queue, burst = self._queue, self._burst
        room = queue.limit - queue.length
        if room <= 0:
            queue.overflow(source)
            self._poller.stop_reading(source)
            return False
        try:
            burst.read(source.read, source.limit, min(room, source.at_once))
        except OSError:
            self._poller.gone(source)
            burst.exhausted = True
        if burst.refused:
            self._refuse(source)
        if burst.lengths:
            self._deliver(source)
        return burst.exhausted

    def resume(self, target: Interface) -> None:
        """Deliver what waits for ``target``, until its device takes no more."""
        backlog = target.backlog
        while backlog:
            frame = backlog[0]
            error = write(target, frame)
            if isinstance(error, BlockingIOError):
                self._poller.await_room(target)
                return
            if error is None:
                self._received(target.words, [frame])
            else:
                count_refused(target, error)
            self._queue.taken(target)
        if self._queue.restart_due:
            self._poller.await_restart()

    @abstractmethod
    def _refuse(self, source: Interface) -> None:
        """Count what was refused of the burst."""

    @abstractmethod
    def _deliver(self, source: Interface) -> None:
        """Deliver the burst behind what waits already, and count it."""

    @abstractmethod
    def _received(self, words: Words, frames: Sequence[bytes | memoryview]) -> None:
        """Count frames that have arrived."""


def write(target: Interface, frame: bytes | memoryview) -> OSError | None:
    """Deliver one frame; why it was refused, or None."""
    try:
        os.write(target.fd, frame)
    except OSError as error:
        return error
    return None


def count_refused(target: Interface, error: OSError) -> None:
    """Count a frame that had been sent, and that ``target`` did not take."""
    target.words[IERRORS + (PEER_DOWN if error.errno in DOWN else WRITE_ERROR)] += 1
