"""The worker: an event loop around the forwarding path.

It owns the cables it was given, both directions of each, and one queue.  It opens nothing and decides
nothing: descriptors and orders come from the control plane, news go back.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from epaird.dataplane import loopback
from epaird.dataplane.burst import frames_at_once
from epaird.dataplane.forward import Forwarder
from epaird.dataplane.frames import read_limit
from epaird.dataplane.interface import Interface, join, nobody
from epaird.dataplane.loopback import Loopback
from epaird.dataplane.queue import Queue
from epaird.dataplane.spin import Spin
from epaird.ipc.counters import CPU_NS, HEARTBEAT_NS
from epaird.ipc.ledger import Table
from epaird.ipc.messages import (
    Attach,
    Attached,
    CableKind,
    CableSpec,
    Detach,
    Done,
    Gone,
    Keep,
    Message,
    Overflow,
    Ping,
    Resize,
    Start,
    Tune,
    Unknown,
    UnknownFamily,
)

HEARTBEAT_S: Final = 0.4
"""How often the loop says it is alive when nothing else has it turn."""
OVERFLOW_S: Final = 0.25
"""How often it is looked whether a queue that was told full still is."""
RETRY_S: Final = 0.1
"""How often a device that took nothing is tried again, besides when it says it has room: a device that
goes down meanwhile never says so."""


class Cable:
    """Two interfaces, or one that leads nowhere or back to itself, and what is to be done once they are
    let go."""

    __slots__ = ("deadline", "detached", "ends", "keep", "spec")

    def __init__(self, ends: tuple[Interface, ...], spec: CableSpec) -> None:
        self.ends = ends
        self.spec = spec
        """What was asked for."""
        self.detached: Callable[[], None] | None = None
        self.keep = False
        """Its descriptors stay once it is let go."""
        self.deadline: asyncio.TimerHandle | None = None

    @property
    def free(self) -> bool:
        """No frame in flight, on no drain list: nothing refers to it any more."""
        return all(end.refs == 1 for end in self.ends)

    def resize(self, mtus: tuple[int, ...]) -> None:
        """Measure frames by new MTUs, in bytes."""
        self.spec = self.spec.resized(mtus)
        for end in self.ends:
            end.limit = loopback.read_limit(mtus[0]) if end.loop else read_limit(min(mtus), max(mtus))
            end.at_once = frames_at_once(end.limit)


class Worker:
    """A worker process from its Start message on."""

    def __init__(self, start: Start, table: Table, say: Callable[[Message], None]) -> None:
        """``say`` sends a message to the control plane."""
        self._loop = asyncio.get_running_loop()
        self._say = say
        self._table = table
        self._words = table.worker_slot(start.slot)
        self._cpu_before_ns = self._words[CPU_NS]
        self._spin = Spin(start.poll_spin_us)
        self._restarting = False
        self._cables: dict[str, Cable] = {}
        self._kept: dict[str, Cable] = {}
        """Those that were let go, but for their descriptors."""
        self._cable_of: dict[Interface, str] = {}
        self._told: set[Interface] = set()
        """Loopbacks of which an unknown family was told."""
        self._waiting: dict[Interface, asyncio.TimerHandle] = {}
        self._queue = Queue(start.queue_limit, self._words)
        self._forwarder = Forwarder(self._queue, self)
        self._nobody = nobody()
        self._loopback: Loopback | None = None
        self._overflowing = False

    def begin(self) -> None:
        """From now on the loop says that it is alive."""
        self._heartbeat()

    # What the forwarder asks for.

    def start_reading(self, interface: Interface) -> None:
        if interface.attached:
            self._beat()  # a drain list may be long
            readable = self._readable if interface.loop is None else self._loopback_readable
            self._loop.add_reader(interface.fd, readable, interface)

    def stop_reading(self, interface: Interface) -> None:
        self._loop.remove_reader(interface.fd)
        if self._queue.oactive and not self._overflowing:
            self._overflowing = True
            self._say(Overflow(True, interface.name))
            self._loop.call_later(OVERFLOW_S, self._overflown)

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

    def _overflown(self) -> None:
        """A queue that fills and drains all the time is told as one that is full."""
        if self._queue.oactive:
            self._loop.call_later(OVERFLOW_S, self._overflown)
        else:
            self._overflowing = False
            self._say(Overflow(False, ""))

    def _unknown_family(self, interface: Interface, version: int) -> None:
        if interface not in self._told:
            self._told.add(interface)
            self._say(UnknownFamily(interface.name, version))

    # What the loop calls.

    def _loopback_readable(self, interface: Interface) -> None:
        if interface.loop is not None:
            interface.loop.transmit(interface)
            self._beat()

    def _readable(self, interface: Interface) -> None:
        exhausted = self._forwarder.exchange(interface)
        self._words[HEARTBEAT_NS] = now_ns = time.monotonic_ns()
        # While there is more to read the loop does not sleep, and to offer the core would be to lose it.
        if exhausted and self._spin.forwarded(now_ns):
            self._loop.call_soon(self._look_again)

    def _look_again(self) -> None:
        """While this is due at once, the loop polls without sleeping."""
        os.sched_yield()
        if self._spin.look_again(time.monotonic_ns()):
            self._loop.call_soon(self._look_again)

    def _has_room(self, interface: Interface) -> None:
        self._stop_waiting(interface)
        (interface.loop or self._forwarder).resume(interface)
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

    def _beat(self) -> None:
        self._words[HEARTBEAT_NS] = time.monotonic_ns()

    def _heartbeat(self) -> None:
        self._beat()
        self._words[CPU_NS] = self._cpu_before_ns + time.process_time_ns()
        self._loop.call_later(HEARTBEAT_S, self._heartbeat)

    # What the control plane asks for.

    def attached(self) -> Iterator[tuple[Attached, tuple[int, ...]]]:
        """Every cable that is not being let go for good, and its descriptors."""
        for cable in (*self._cables.values(), *self._kept.values()):
            if cable.detached is None or cable.keep:
                spec = replace(cable.spec, kind=CableKind.KEPT) if cable.keep else cable.spec
                yield Attached(spec), tuple(end.fd for end in cable.ends)

    def obey(self, order: Message, fds: list[int]) -> None:
        """Carry out an order of the control plane, or begin to.  Each is a sign of life."""
        self._beat()
        match order:
            case Attach():
                self._say(Done(order.id, self._attach(order.cable, fds)))
            case Detach() if order.cable in self._kept:
                self._close(self._kept.pop(order.cable))
                self._say(Done(order.id))
            case Resize() | Detach() | Keep() if order.cable not in self._cables:
                self._say(Done(order.id, f"{order.cable} is not attached"))
            case Resize():
                self._cables[order.cable].resize(order.mtus)
                self._say(Done(order.id))
            case Detach() | Keep():
                self._detach(order)
            case Tune():
                self._queue.limit = order.queue_limit
                self._spin.look_for(order.poll_spin_us)
                self._say(Done(order.id))
            case Ping():
                pass
            case Unknown():
                self._say(Done(order.id, f"unknown request {order.name}"))
            case _:
                raise ValueError(f"not an order: {order}")

    def _attach(self, spec: CableSpec, fds: list[int]) -> str:
        """Begin to forward a cable; what is in the way of that, or nothing."""
        if len(fds) < len(spec.ports) or spec.name in self._cables:
            # The kernel leaves out descriptors that we may not have.
            for fd in fds:
                os.close(fd)
            few = len(fds) < len(spec.ports)
            return f"{spec.name}: {'too many files are open' if few else 'is attached already'}"
        ends = tuple(
            Interface(port.name, fd, self._table.slot(port.slot))
            for port, fd in zip(spec.ports, fds, strict=True)
        )
        match spec.kind:
            case CableKind.CABLE:
                join(*ends)
            case CableKind.UNPLUGGED:
                ends[0].peer = self._nobody
            case _:
                if self._loopback is None:
                    self._loopback = Loopback(self._queue, self, self._unknown_family)
                self._loopback.add(ends[0], reflect=spec.kind == CableKind.REFLECT)
        if (kept := self._kept.pop(spec.name, None)) is not None:
            self._close(kept)
        cable = self._cables[spec.name] = Cable(ends, spec)
        cable.resize(spec.mtus)
        for end in ends:
            end.coalesce = spec.coalesce
            self._cable_of[end] = spec.name
            self.start_reading(end)
        return ""

    def _detach(self, order: Detach | Keep) -> None:
        cable = self._cables[order.cable]
        if cable.deadline is not None:  # it was being let go already, for another control plane
            cable.deadline.cancel()
        cable.keep = isinstance(order, Keep)
        cable.detached = lambda: self._say(Done(order.id))
        for half in cable.ends:
            half.attached = False
            self.stop_reading(half)
            self._queue.unlist(half)
        cable.deadline = self._loop.call_later(order.patience, self._give_up, order.cable)
        self._release(order.cable)

    def _give_up(self, name: str) -> None:
        for half in self._cables[name].ends:
            self._forwarder.discard(half)
        self._release(name)

    def _release(self, name: str) -> None:
        """Forget a cable that was let go, once nothing refers to it any more."""
        cable = self._cables[name]
        if cable.detached is None or not cable.free:
            return
        if cable.deadline is not None:
            cable.deadline.cancel()
        for half in cable.ends:
            self._stop_waiting(half)
            if self._loopback is not None:
                self._loopback.remove(half)
            self._told.discard(half)
            del self._cable_of[half]
        del self._cables[name]
        if cable.keep:
            self._kept[name] = cable
        else:
            self._close(cable)
        cable.detached()

    def _close(self, cable: Cable) -> None:
        for half in cable.ends:
            os.close(half.fd)
