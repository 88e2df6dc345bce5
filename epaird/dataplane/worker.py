"""The worker: an event loop around the forwarding path.

It forwards the cables that the control plane attached, both directions of each, with one queue. It opens
nothing and decides nothing: descriptors and requests come from the control plane, answers and events go back.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Final

from epaird.dataplane.attached import AttachedCable
from epaird.dataplane.burst import BURST_BYTES
from epaird.dataplane.crossconnect import CrossConnect
from epaird.dataplane.forwarding import Forwarding
from epaird.dataplane.impair.lines import Lines
from epaird.dataplane.pipeline import Pipeline
from epaird.dataplane.port import Port
from epaird.dataplane.queue import Queue
from epaird.dataplane.reflector import Reflector
from epaird.dataplane.sink import Sink
from epaird.dataplane.spin import Spin
from epaird.ipc.counters import CPU_NS, HEARTBEAT_NS
from epaird.ipc.ledger import Table
from epaird.ipc.messages import (
    Amend,
    Attach,
    Attached,
    CableKind,
    CableSpec,
    Continue,
    Detach,
    Done,
    Drained,
    Gone,
    Impair,
    Keep,
    Message,
    Overflow,
    Pause,
    Ping,
    PortSpec,
    Resize,
    Start,
    Tune,
    Unknown,
    UnknownFamily,
)

OPEN_FILES: Final = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
"""Descriptors that this process may have. Read here, because the sandbox permits no such call later."""
HEARTBEAT_S: Final = 0.4
"""Interval in seconds at which an idle loop updates its heartbeat."""
OVERFLOW_S: Final = 0.25
"""Interval in seconds at which ports that were reported as blocked are checked."""
RETRY_S: Final = 0.1
"""Interval in seconds at which a device that took nothing is tried again, besides when it is writable: a
device that is set down never becomes writable. Its blocked senders are flushed then if they are down."""

FORWARDINGS: Final[Mapping[str, Callable[[Pipeline, tuple[Port, ...]], Forwarding[Port]]]] = MappingProxyType(
    {
        CableKind.CABLE: CrossConnect,
        CableKind.UNPLUGGED: Sink,
        CableKind.REFLECT: partial(Reflector, swap=True),
        CableKind.VERBATIM: partial(Reflector, swap=False),
    }
)
"""By kind of cable, the constructor of its forwarding."""


class WorkerLoop:
    """A worker from its Start message on."""

    def __init__(self, start: Start, table: Table, send: Callable[[Message], None]) -> None:
        """``send`` sends a message to the control plane."""
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._table = table
        self._words = table.worker_slot(start.slot)
        self._cpu_before_ns = self._words[CPU_NS]
        self._spin = Spin(start.poll_spin_us)
        self._restarting = False
        self._cables: dict[str, AttachedCable] = {}
        self._kept: dict[str, AttachedCable] = {}
        """Cables that are detached and whose descriptors are kept."""
        self._paused: dict[str, asyncio.TimerHandle] = {}
        """Cables that are paused, each with the timer that ends the pause."""
        self._cable_of: dict[Port, str] = {}
        self._awaiting_room: dict[Port, asyncio.TimerHandle] = {}
        self._queue = Queue(start.queue_limit, self._words)
        self._pipeline = Pipeline(self._queue, self)
        self._lines = Lines(self._pipeline, table, start.poll_spin_us, self._drained)
        self._overflowing: set[Port] = set()
        """Ports that were reported as blocked."""

    def begin(self) -> None:
        """Update the heartbeat from now on."""
        self._heartbeat()

    # The data plane's Poller.

    def start_reading(self, port: Port) -> None:
        """Have the port transmit whenever its device is readable."""
        if port.attached:
            self._beat()  # a drain list may be long
            self._loop.add_reader(port.fd, self._readable, port)

    def stop_reading(self, port: Port) -> None:
        """Stop reading the port; report it when its output is blocked."""
        self._loop.remove_reader(port.fd)
        if port.oactive and port not in self._overflowing:
            if not self._overflowing:
                self._loop.call_later(OVERFLOW_S, self._check_overflow)
            self._overflowing.add(port)
            self._send(Overflow(True, port.name))

    def await_room(self, port: Port) -> None:
        """Resume when the port's device is writable, or after RETRY_S."""
        if port not in self._awaiting_room:
            self._loop.add_writer(port.fd, self._has_room, port)
            self._awaiting_room[port] = self._loop.call_later(RETRY_S, self._has_room, port)

    def await_restart(self) -> None:
        """Restart the ports on drain lists in the loop's next turn."""
        if not self._restarting:
            self._restarting = True
            self._loop.call_soon(self._restart)

    def gone(self, port: Port) -> None:
        """Stop reading, so that the descriptor does not keep the loop busy, and report it once."""
        if port.attached:
            port.attached = False
            self.stop_reading(port)
            self._send(Gone(self._cable_of[port], port.name))

    def _drained(self, port: Port) -> None:
        """Report that a port without impairment has no line any more."""
        name = self._cable_of[port]
        cable = self._cables[name]
        number = cable.ports.index(port)
        cable.spec = cable.spec.impaired(number, ())
        self._send(Drained(name, number))

    def unknown_family(self, port: Port, version: int) -> None:
        """Report the packet."""
        self._send(UnknownFamily(port.name, version))

    def _check_overflow(self) -> None:
        """Report the ports that are no longer blocked, each once however often it was."""
        for port in tuple(self._overflowing):
            if not port.oactive:
                self._overflowing.discard(port)
                self._send(Overflow(False, port.name))
        if self._overflowing:
            self._loop.call_later(OVERFLOW_S, self._check_overflow)

    # Callbacks of the event loop.

    def _readable(self, port: Port) -> None:
        exhausted = port.forwarding.exchange(port)
        self._words[HEARTBEAT_NS] = now_ns = time.monotonic_ns()
        # While a device is readable the loop does not sleep, and offering the core would lose it.
        if exhausted and self._spin.forwarded(now_ns):
            self._loop.call_soon(self._poll_again)

    def _poll_again(self) -> None:
        """Offer the core to other tasks. The loop does not sleep while this is due in its next turn."""
        os.sched_yield()
        if self._spin.poll_again(time.monotonic_ns()):
            self._loop.call_soon(self._poll_again)

    def _has_room(self, port: Port) -> None:
        self._stop_awaiting_room(port)
        self._pipeline.resume(port)
        self._pipeline.flush(port)
        self._release(self._cable_of[port])

    def _stop_awaiting_room(self, port: Port) -> None:
        timer = self._awaiting_room.pop(port, None)
        if timer is not None:
            timer.cancel()
            self._loop.remove_writer(port.fd)

    def _restart(self) -> None:
        self._restarting = False
        if self._queue.restart_due:
            self._pipeline.restart()

    def _beat(self) -> None:
        self._words[HEARTBEAT_NS] = time.monotonic_ns()

    def _heartbeat(self) -> None:
        self._beat()
        self._words[CPU_NS] = self._cpu_before_ns + time.process_time_ns()
        self._lines.tend()
        self._loop.call_later(HEARTBEAT_S, self._heartbeat)

    # Requests of the control plane.

    def attached(self) -> Iterator[tuple[Attached, tuple[int, ...]]]:
        """Yield every cable, except those being closed, with its descriptors."""
        for cable in (*self._cables.values(), *self._kept.values()):
            if cable.detached is None or cable.keep:
                spec = replace(cable.spec, kind=CableKind.KEPT) if cable.keep else cable.spec
                fds = tuple(port.fd for port in cable.ports)
                yield Attached(spec), fds + self._lines.descriptors(cable.ports)

    def handle(self, request: Message, fds: list[int]) -> None:
        """Carry out a request of the control plane, or begin to, and update the heartbeat.

        Raises ValueError for a message that is no request."""
        self._beat()
        match request:
            case Attach() | Impair():
                self._carry_out(request, fds)
            case Detach() if request.cable in self._kept:
                self._close(self._kept.pop(request.cable))
                self._send(Done(request.id))
            case Resize() | Detach() | Keep() | Pause() | Amend() if request.cable not in self._cables:
                self._send(Done(request.id, f"{request.cable} is not attached"))
            case Pause() | Continue() | Amend():
                self._send(Done(request.id, self._settle(request)))
            case Resize():
                self._cables[request.cable].resize(request.mtus)
                self._send(Done(request.id))
            case Detach() | Keep():
                self._detach(request)
            case Tune():
                self._queue.limit = request.queue_limit
                self._spin.tune(request.poll_spin_us)
                self._lines.tune(request.poll_spin_us)
                self._send(Done(request.id))
            case Ping():
                pass
            case Unknown():
                self._refuse(request, fds)
            case _:
                raise ValueError(f"not a request: {request}")

    def _refuse(self, request: Unknown, fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)
        self._send(Done(request.id, f"unknown request {request.name}"))

    def _carry_out(self, request: Attach | Impair, fds: list[int]) -> None:
        """Carry out a request that comes with descriptors."""
        if isinstance(request, Attach):
            lacks = len(fds) < request.cable.descriptors
            error = self._attach(request.cable, fds)
        else:
            lacks = len(fds) < PortSpec(line=request.line).files
            error = self._impair(request, fds)
        self._send(Done(request.id, error, errno.EMFILE if lacks else 0))

    def _attach(self, spec: CableSpec, fds: list[int]) -> str:
        """Begin to forward a cable; return why that is not possible, or an empty string."""
        if error := self._objection(spec, fds):
            for fd in fds:
                os.close(fd)
            return f"{spec.name}: {error}"
        fds, files = fds[: len(spec.ports)], fds[len(spec.ports) :]
        ports = tuple(
            Port(port.name, fd, self._table.slot(port.slot)) for port, fd in zip(spec.ports, fds, strict=True)
        )
        forwarding = FORWARDINGS[spec.kind](self._pipeline, ports)
        if (kept := self._kept.pop(spec.name, None)) is not None:
            self._close(kept)
        cable = self._cables[spec.name] = AttachedCable(ports, spec, forwarding)
        cable.resize(spec.mtus)
        for port, options in zip(ports, spec.ports, strict=True):
            port.coalesce = spec.coalesce
            port.offload, port.pmtu = options.offload, options.pmtu
            self._cable_of[port] = spec.name
        for port in ports:
            port.burst_bytes = BURST_BYTES if port.receiver.offload else 0
        if error := self._lines.attach(cable, files):
            self._forget(cable)
            self._close(cable)
            return error
        for port in ports:
            self.start_reading(port)
        return ""

    def _impair(self, request: Impair, fds: list[int]) -> str:
        """Apply another impairment to a port; return why that is not possible, or an empty string."""
        cable = self._cables.get(request.cable)
        if cable is not None:
            return self._lines.impair(cable, request, fds)
        for fd in fds:
            os.close(fd)
        return f"{request.cable} is not attached"

    def _objection(self, spec: CableSpec, fds: list[int]) -> str:
        if len(fds) < spec.descriptors:
            # The kernel omits descriptors beyond the limit of the process.
            return f"too many open files: its worker may have {OPEN_FILES}: raise LimitNOFILE= of the service"
        if spec.name in self._cables:
            return "is attached already"
        if spec.kind not in FORWARDINGS:
            return f"unknown kind {spec.kind}"
        if spec.kind != CableKind.CABLE and spec.descriptors > len(spec.ports):
            return "only a cable between two ports can be impaired"
        return ""

    def _settle(self, request: Pause | Continue | Amend) -> str:
        """Carry out a request for the settlement of an account; return why it is refused, or nothing."""
        match request:
            case Continue():
                return "" if self._continue(request.cable) else f"{request.cable} is not paused"
            case Pause():
                return self._pause(request.cable, request.seconds)
            case Amend():
                self._cables[request.cable].amend(request.corrections)
        return ""

    def _pause(self, name: str, seconds: float) -> str:
        """Read and write nothing of a cable; a port that was listed is listed again when it is read."""
        cable = self._cables[name]
        if cable.detached is not None:
            return f"{name} is being detached"
        self._continue(name)
        for port in cable.ports:
            self._queue.unlist(port)
            self.stop_reading(port)
            self._stop_awaiting_room(port)
        self._lines.pause(cable.ports, paused=True)
        self._paused[name] = self._loop.call_later(seconds, self._continue, name)
        return ""

    def _continue(self, name: str) -> bool:
        """End the pause of a cable; return False when it is not paused."""
        timer = self._paused.pop(name, None)
        if timer is None:
            return False
        timer.cancel()
        for port in self._cables[name].ports:
            if port.backlog:
                self.await_room(port)
            self.start_reading(port)
        self._lines.pause(self._cables[name].ports, paused=False)
        return True

    def _detach(self, request: Detach | Keep) -> None:
        cable = self._cables[request.cable]
        self._continue(request.cable)
        if cable.deadline is not None:  # an earlier control plane had requested it
            cable.deadline.cancel()
        cable.keep = isinstance(request, Keep)
        cable.detached = lambda: self._send(Done(request.id))
        for port in cable.ports:
            port.attached = False
            self.stop_reading(port)
            self._queue.unlist(port)
        self._lines.stop(cable.ports)
        cable.deadline = self._loop.call_later(request.patience, self._give_up, request.cable)
        self._release(request.cable)

    def _give_up(self, name: str) -> None:
        for port in self._cables[name].ports:
            self._pipeline.discard(port)
        self._release(name)

    def _release(self, name: str) -> None:
        """Forget a cable that is being detached, once nothing refers to it any more."""
        cable = self._cables[name]
        if cable.detached is None or not cable.free:
            return
        if cable.deadline is not None:
            cable.deadline.cancel()
        self._forget(cable)
        if cable.keep:
            self._kept[name] = cable
        else:
            self._close(cable)
        cable.detached()

    def _forget(self, cable: AttachedCable) -> None:
        for port in cable.ports:
            self._stop_awaiting_room(port)
            del self._cable_of[port]
        del self._cables[cable.spec.name]

    def _close(self, cable: AttachedCable) -> None:
        """Close the descriptors of a cable and of its lines."""
        self._lines.close(cable.ports)
        cable.close()
