"""The lines of a worker: their rings and files, their timer, their changes."""

from __future__ import annotations

import asyncio
import mmap
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from epaird.dataplane.attached import AttachedCable
from epaird.dataplane.impair.decisions import Decisions
from epaird.dataplane.impair.line import Line
from epaird.dataplane.impair.timetable import Timetable
from epaird.dataplane.pipeline import Pipeline
from epaird.dataplane.port import Port
from epaird.ipc.impairment import LineSpec
from epaird.ipc.ledger import Table
from epaird.ipc.messages import CableKind, Impair, PortSpec
from epaird.ipc.ring import Ring
from epaird.ipc.ringchanges import give_back
from epaird.ipc.ringfile import same
from epaird.kernel.timerfd import Timer

WRITE_NS: Final = 15_000
"""Nanoseconds between the decision to release a frame and its arrival, while polling."""
SPIN_NS: Final = 100_000
"""Most nanoseconds to poll before a frame is due, where the worker polls at all."""


class HeldLine:
    """A line and the descriptors that came with it."""

    def __init__(self, line: Line, ring: Ring, fds: list[int]) -> None:
        self.line = line
        self.ring = ring
        """Its ring."""
        self.fds = fds
        """The ring's descriptor, then its trace's and its replay's."""


class Lines:
    """The lines of one worker, by the port that transmits into each."""

    def __init__(
        self, pipeline: Pipeline, table: Table, spin_us: int, drained: Callable[[Port], None]
    ) -> None:
        """``drained`` is called when a port without impairment has no line any more."""
        self._loop = asyncio.get_running_loop()
        self._pipeline = pipeline
        self._table = table
        self._drained = drained
        self._timetable = Timetable(self._arm, time.monotonic_ns)
        self._timer: Timer | None = None
        self._polling = False
        self._held: dict[Port, HeldLine] = {}
        self.tune(spin_us)

    def tune(self, spin_us: int) -> None:
        """Poll for up to so many microseconds before a frame is due."""
        self._timetable.early_ns = min(spin_us * 1000, SPIN_NS)

    def attach(self, cable: AttachedCable, files: list[int]) -> str:
        """Give the ports of a cable their lines, from the descriptors that came with it; return why that is
        not possible, or an empty string. The descriptors belong to the lines, or are closed."""
        for port, options in zip(cable.ports, cable.spec.ports, strict=True):
            own, files = files[: options.files], files[options.files :]
            for spec in options.line:
                if error := self._attach(port, spec, own):
                    _close((*own, *files))
                    return error
        return ""

    def impair(self, cable: AttachedCable, request: Impair, fds: list[int]) -> str:
        """Apply another impairment to a port of a cable, or none; otherwise as :meth:`attach`."""
        if error := _objection(cable, request, fds):
            _close(fds)
            return error
        port, before = cable.ports[request.port], cable.spec
        if not request.line:
            _close(fds)
            cable.spec = before.impaired(request.port, _draining(before.ports[request.port].line))
            self._drain(port)
            return ""
        cable.spec = before.impaired(request.port, request.line)
        if error := self._impair(port, request.line[0], fds):
            cable.spec = before
            _close(fds)
        return error

    def _attach(self, port: Port, spec: LineSpec, fds: list[int]) -> str:
        ring = None
        try:
            ring = Ring(fds[0])
            if any(held.line.active and same(fds[0], held.fds[0]) for held in self._held.values()):
                raise ValueError("its ring is in use: several queues cannot share a line")
            decisions = _decisions(spec, ring.decided(), fds)
            words = self._table.line_slot(spec.slot)
            line = Line(
                spec, ring, decisions, port, words, self._pipeline, self._timetable, time.monotonic_ns
            )
        except (OSError, ValueError, IndexError) as error:
            if ring is not None:
                ring.close()
            return f"{port.name}: {error}"
        self._held[port] = HeldLine(line, ring, fds)
        if spec.draining:
            self._drain(port)
        return ""

    def _drain(self, port: Port) -> None:
        """Impair nothing from now on, and drop the line once it holds nothing."""
        held = self._held.get(port)
        if held is None:
            self._loop.call_soon(self._drained, port)
            return
        held.line.drain(lambda: self._drop(port))
        _close(held.fds[1:])
        del held.fds[1:]

    def _impair(self, port: Port, spec: LineSpec, fds: list[int]) -> str:
        held = self._held.get(port)
        if held is None:
            return self._attach(port, spec, fds)
        if not same(held.fds[0], fds[0]):
            if not held.line.empty:
                return f"{port.name}: another ring cannot be used while frames are held"
            self._forget(port)
            return self._attach(port, spec, fds)
        try:
            decisions = _decisions(spec, held.line.state(), fds)
        except (OSError, ValueError) as error:
            return f"{port.name}: {error}"
        held.line.change(spec, decisions)
        _close((*held.fds[1:], fds[0]))
        held.fds[1:] = fds[1:]
        return ""

    def descriptors(self, ports: Iterable[Port]) -> tuple[int, ...]:
        """Return the descriptors of the lines of these ports, in order."""
        return tuple(fd for port in ports if port in self._held for fd in self._held[port].fds)

    def pause(self, ports: Iterable[Port], *, paused: bool) -> None:
        """Release nothing of these ports, or go on."""
        for port in ports:
            if port in self._held:
                self._held[port].line.pause(paused=paused)

    def tend(self) -> None:
        """Give back memory that is not used. To be called regularly."""
        for held in self._held.values():
            held.line.tend()

    def stop(self, ports: Iterable[Port]) -> None:
        """Leave the rings of these ports as they are; the descriptors stay open."""
        for port in ports:
            if port in self._held:
                self._held[port].line.stop()

    def close(self, ports: Iterable[Port]) -> None:
        """Close the rings of these ports, which are stopped, and their descriptors."""
        for port in ports:
            if port in self._held:
                self._forget(port)

    def _drop(self, port: Port) -> None:
        give_back(self._held[port].ring)
        self._forget(port)
        self._drained(port)

    def _forget(self, port: Port) -> None:
        held = self._held.pop(port)
        held.line.stop()
        held.line.close()
        held.ring.close()
        _close(held.fds)

    # The timer.

    def _arm(self, at_ns: int) -> None:
        if self._timer is None:
            self._timer = Timer()
            self._loop.add_reader(self._timer.fd, self._due)
        self._timer.arm(at_ns)

    def _due(self) -> None:
        timetable = self._timetable
        timetable.woken()
        if timetable.early_ns and not self._polling:
            self._polling = True
            self._poll()

    def _poll(self) -> None:
        """Run what is due, and poll while something will be soon."""
        timetable = self._timetable
        now_ns = time.monotonic_ns()
        if timetable.next_ns <= now_ns + WRITE_NS:
            timetable.run(now_ns, WRITE_NS)
        if timetable.next_ns - now_ns > timetable.early_ns:
            self._polling = False
        else:
            os.sched_yield()
            self._loop.call_soon(self._poll)

    def end(self) -> None:
        """Close the timer."""
        if self._timer is not None:
            self._loop.remove_reader(self._timer.fd)
            self._timer.close()
            self._timer = None


def _objection(cable: AttachedCable, request: Impair, fds: Sequence[int]) -> str:
    """Return why a request cannot be carried out, or an empty string."""
    if cable.detached is not None:
        return f"{request.cable} is being detached"
    if request.port not in range(len(cable.ports)) or cable.spec.kind != CableKind.CABLE:
        return f"{request.cable} has no port {request.port} that can be impaired"
    if len(fds) < PortSpec(line=request.line).files:
        return "too many open files"
    return ""


def _draining(line: tuple[LineSpec, ...]) -> tuple[LineSpec, ...]:
    """Return what is reported of a line that impairs nothing any more."""
    return tuple(LineSpec(each.slot, buffer=each.buffer, draining=True) for each in line)


def _decisions(spec: LineSpec, state: Sequence[int], fds: Sequence[int]) -> Decisions:
    """Return the decisions of a line that go on from a state, with the files among its descriptors."""
    files = iter(fds[1:])
    trace = _numbers(next(files)) if spec.trace else None
    replay = _numbers(next(files)) if spec.replay else None
    return Decisions(spec, state, trace, replay)


def _numbers(fd: int) -> memoryview:
    """Return the unsigned 64-bit numbers in a file. They stay mapped as long as they are used."""
    size = os.lseek(fd, 0, os.SEEK_END) // 8 * 8  # fstat() is denied in the sandbox
    return memoryview(mmap.mmap(fd, size, access=mmap.ACCESS_READ) if size else b"").cast("Q")


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
