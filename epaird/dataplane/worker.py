"""The worker: an event loop around the forwarding path.

It owns the cables it was given, both directions of each, and one queue.  It opens nothing and decides
nothing: descriptors and orders come from the control plane, news go back.  When the control plane ends,
so does it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from typing import Final

from epaird.dataplane.burst import frames_at_once
from epaird.dataplane.forward import Forwarder
from epaird.dataplane.frames import read_limit
from epaird.dataplane.interface import Interface, join
from epaird.dataplane.queue import Queue
from epaird.dataplane.spin import Spin
from epaird.ledger import CPU_NS, HEARTBEAT_NS, Table
from epaird.messages import Attach, Detach, Done, Gone, Message, Resize, Start

HEARTBEAT_S: Final = 0.25
"""How often the loop says it is alive."""
RETRY_S: Final = 0.1
"""How often a device that took nothing is tried again, besides when it says it has room: a device that
goes down meanwhile never says so."""


class Cable:
    """Two interfaces, and what is to be done once they are let go."""

    __slots__ = ("a", "b", "deadline", "detached")

    def __init__(self, a: Interface, b: Interface) -> None:
        self.a = a
        self.b = b
        self.detached: Callable[[], None] | None = None
        self.deadline: asyncio.TimerHandle | None = None

    @property
    def halves(self) -> tuple[Interface, Interface]:
        return self.a, self.b

    @property
    def free(self) -> bool:
        """No frame in flight, on no drain list: nothing refers to it any more."""
        return self.a.refs == 1 and self.b.refs == 1


class Worker:
    """A worker process from its Start message on."""

    def __init__(self, start: Start, table: Table, say: Callable[[Message], None]) -> None:
        """``say`` sends a message to the control plane."""
        self._loop = asyncio.get_running_loop()
        self._say = say
        self._table = table
        self._words = table.slot(start.slot)
        self._cpu_before_ns = self._words[CPU_NS]
        self._spin = Spin(start.poll_spin_us)
        self._restarting = False
        self._cables: dict[str, Cable] = {}
        self._cable_of: dict[Interface, str] = {}
        self._waiting: dict[Interface, asyncio.TimerHandle] = {}
        self._queue = Queue(start.queue_limit, self._words)
        self._forwarder = Forwarder(self._queue, self)

    def begin(self) -> None:
        """From now on the loop says that it is alive."""
        self._heartbeat()

    # What the forwarder asks for.

    def start_reading(self, interface: Interface) -> None:
        if interface.attached:
            self._loop.add_reader(interface.fd, self._readable, interface)

    def stop_reading(self, interface: Interface) -> None:
        self._loop.remove_reader(interface.fd)

    def await_room(self, interface: Interface) -> None:
        if interface not in self._waiting:
            self._loop.add_writer(interface.fd, self._has_room, interface)
            self._waiting[interface] = self._loop.call_later(RETRY_S, self._has_room, interface)

    def await_restart(self) -> None:
        if not self._restarting:
            self._restarting = True
            self._loop.call_soon(self._restart)

    def gone(self, interface: Interface) -> None:
        """Not read any more, so that its descriptor does not keep the loop busy; told once."""
        if interface.attached:
            interface.attached = False
            self.stop_reading(interface)
            self._say(Gone(self._cable_of[interface], interface.name))

    # What the loop calls.

    def _readable(self, interface: Interface) -> None:
        self._forwarder.transmit(interface)
        if self._spin.forwarded(time.monotonic_ns()):
            self._loop.call_soon(self._look_again)

    def _look_again(self) -> None:
        """While this is due at once, the loop polls without sleeping."""
        if self._spin.look_again(time.monotonic_ns()):
            self._loop.call_soon(self._look_again)

    def _has_room(self, interface: Interface) -> None:
        self._stop_waiting(interface)
        self._forwarder.resume(interface)
        self._release(self._cable_of[interface])

    def _stop_waiting(self, interface: Interface) -> None:
        timer = self._waiting.pop(interface, None)
        if timer is not None:
            timer.cancel()
            self._loop.remove_writer(interface.fd)

    def _restart(self) -> None:
        self._restarting = False
        if self._queue.restart_due:
            self._forwarder.restart()

    def _heartbeat(self) -> None:
        self._words[HEARTBEAT_NS] = time.monotonic_ns()
        self._words[CPU_NS] = self._cpu_before_ns + time.process_time_ns()
        self._loop.call_later(HEARTBEAT_S, self._heartbeat)

    # What the control plane asks for.

    def obey(self, order: Message, fds: list[int]) -> None:
        """Carry out an order of the control plane, or begin to."""
        match order:
            case Attach():
                self._say(Done(order.id, self._attach(order, fds)))
            case Resize() | Detach() if order.cable not in self._cables:
                self._say(Done(order.id, f"{order.cable} is not attached"))
            case Resize():
                _set_limit(self._cables[order.cable].halves, order.mtus)
                self._say(Done(order.id))
            case Detach():
                self._detach(order)
            case _:
                raise ValueError(f"not an order: {order}")

    def _attach(self, order: Attach, fds: list[int]) -> str:
        """Forward a cable; why not, if not."""
        if len(fds) != len(order.names) or order.cable in self._cables:
            for fd in fds:
                os.close(fd)
            # The kernel leaves out descriptors for which there is no room.
            return f"{order.cable}: " + (
                "attached already" if order.cable in self._cables else "too many open files in the worker"
            )
        a, b = (
            Interface(name, fd, self._table.slot(slot))
            for name, fd, slot in zip(order.names, fds, order.slots, strict=True)
        )
        join(a, b)
        cable = self._cables[order.cable] = Cable(a, b)
        _set_limit(cable.halves, order.mtus)
        for half in cable.halves:
            half.coalesce = order.coalesce
            self._cable_of[half] = order.cable
            self.start_reading(half)
        return ""

    def _detach(self, order: Detach) -> None:
        cable = self._cables[order.cable]
        cable.detached = lambda: self._say(Done(order.id))
        for half in cable.halves:
            half.attached = False
            self.stop_reading(half)
            self._queue.unlist(half)
        cable.deadline = self._loop.call_later(order.patience, self._give_up, order.cable)
        self._release(order.cable)

    def _give_up(self, name: str) -> None:
        for half in self._cables[name].halves:
            self._forwarder.discard(half)
        self._release(name)

    def _release(self, name: str) -> None:
        """Forget a cable that was let go, once nothing refers to it any more."""
        cable = self._cables[name]
        if cable.detached is None or not cable.free:
            return
        if cable.deadline is not None:
            cable.deadline.cancel()
        for half in cable.halves:
            self._stop_waiting(half)
            del self._cable_of[half]
            os.close(half.fd)
        del self._cables[name]
        cable.detached()


def _set_limit(halves: Iterable[Interface], mtus: tuple[int, int]) -> None:
    for half in halves:
        half.limit = read_limit(*mtus)
        half.at_once = frames_at_once(half.limit)
