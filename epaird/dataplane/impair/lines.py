"""The lines of a worker: their rings and files, their timer, their changes.

Ports that transmit in one direction come one after the other, with the same ring: each joins the line of that
ring, until the line has all of them. A change is requested for each port, too; the first request applies it.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from epaird.dataplane.attached import AttachedCable
from epaird.dataplane.impair.decisions import Decisions, is_sound, new_state
from epaird.dataplane.impair.line import Line
from epaird.dataplane.impair.timetable import Timetable
from epaird.dataplane.pipeline import Pipeline
from epaird.dataplane.port import Port
from epaird.ipc.impairment import LineSpec
from epaird.ipc.ledger import Table, Words
from epaird.ipc.messages import CableKind, Impair, PortSpec
from epaird.ipc.ring import Ring
from epaird.ipc.ringchanges import give_back
from epaird.ipc.ringfile import same
from epaird.ipc.ringsoundness import LOST, bound, opened
from epaird.kernel.timerfd import Timer

SPIN_NS: Final = 100_000
"""Most nanoseconds to poll before a frame is due, where the worker polls at all."""
_STDERR: Final = 2


class HeldLine:
    """A line and the descriptors that came with it."""

    def __init__(self, line: Line, ring: Ring, fds: list[int], spec: LineSpec) -> None:
        self.line = line
        self.ring = ring
        """Its ring."""
        self.fds = fds
        """The ring's descriptor, then its trace's and its replay's."""
        self.spec = spec
        """The impairment that it applies."""
        self.members: dict[Port, tuple[AttachedCable, int]] = {}
        """The ports that have its descriptors, each with its cable and its number there. All of them are the
        line's, except those that are detached and kept."""

    def carry_out(self, spec: LineSpec, fds: Sequence[int]) -> None:
        """Record what it carries out now, with these files, and close the former ones."""
        _close(self.fds[1:])
        self.fds[1:] = fds
        self.spec = spec
        for port in self.members:
            self.report(port)

    def report(self, port: Port) -> None:
        """Have a port's cable described with what the line carries out."""
        cable, number = self.members[port]
        cable.spec = cable.spec.impaired(number, (self.spec,))


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
        self._timetable = Timetable(self._arm, self._watch, time.monotonic_ns)
        self._timer: Timer | None = None
        self._held: dict[Port, HeldLine] = {}
        self.tune(spin_us)

    def tune(self, spin_us: int) -> None:
        """Poll for up to so many microseconds before a frame is due."""
        self._timetable.early_ns = min(spin_us * 1000, SPIN_NS)

    def attach(self, cable: AttachedCable, files: list[int]) -> str:
        """Give the ports of a cable their lines, from the descriptors that came with it; return why that is
        not possible, or an empty string. The descriptors belong to the lines, or are closed."""
        for number, options in enumerate(cable.spec.ports):
            own, files = files[: options.files], files[options.files :]
            for spec in options.line:
                if error := self._attach(cable, number, spec, own):
                    _close((*own, *files))
                    return error
        return ""

    def impair(self, cable: AttachedCable, request: Impair, fds: list[int]) -> str:
        """Apply another impairment to a port of a cable, or none; otherwise as :meth:`attach`."""
        error = _objection(cable, request, fds)
        if not error and request.line:
            error = self._impair(cable, request.port, request.line[0], fds)
        if error or not request.line:
            _close(fds)
        if not error and not request.line:
            self._drain(cable.ports[request.port])
        return error

    def _attach(self, cable: AttachedCable, number: int, spec: LineSpec, fds: list[int]) -> str:
        port = cable.ports[number]
        try:
            held = self._joined(spec, fds) or self._create(port, spec, fds)
        except (OSError, ValueError, IndexError) as error:
            return f"{port.name}: {error}"
        self._held[port] = held
        held.members[port] = cable, number
        held.report(port)
        held.line.add(port, cable.spec.ports[1 - number].slot)
        if spec.draining:
            self._drain(port)
        return ""

    def _joined(self, spec: LineSpec, fds: list[int]) -> HeldLine | None:
        """Return the line that has a ring already, if it lacks a port. Raises ValueError if it does not."""
        for held in self._held.values():
            if held.spec.slot == spec.slot and held.line.ports and same(fds[0], held.fds[0]):
                if held.line.complete:
                    raise ValueError("its ring is in use")
                self._change(held, spec, fds)
                return held
        return None

    def _create(self, port: Port, spec: LineSpec, fds: list[int]) -> HeldLine:
        """Return a line without ports."""
        words, receiver = self._table.line_slot(spec.slot), self._receiver(spec, port)
        ring, fault = opened(fds[0], words, receiver, records=True)
        try:
            if fault:
                _report(f"{port.name}: {fault}: {LOST}")
            if bound(ring, time.monotonic_ns() + spec.longest_ns):
                _report(f"{port.name}: impairment held frames for longer than it does: they are due earlier")
            state = ring.decided()
            if not is_sound(state, ring.last):
                _report(f"{port.name}: the state of its decisions contradicts itself: they begin anew")
                state = new_state(ring.last)
            line = Line(
                spec, ring, _decisions(spec, state, fds), words, receiver, self._pipeline, self._timetable,
                time.monotonic_ns, self._drop,
            )  # fmt: skip
        except (OSError, ValueError, IndexError):
            ring.close()
            raise
        return HeldLine(line, ring, fds, spec)

    def _receiver(self, spec: LineSpec, port: Port) -> Words:
        """Return the slot that the deliveries of a line are counted in."""
        return self._table.slot(spec.receiver) if spec.receiver >= 0 else port.receiver.account.words

    def _change(self, held: HeldLine, spec: LineSpec, fds: list[int]) -> None:
        """Have a line carry out what it is given with its ring again."""
        if spec != held.spec and not (spec.draining and held.spec.draining):
            held.line.change(spec, _decisions(spec, held.line.state(), fds))
            held.carry_out(spec, fds[1:])
        else:
            _close(fds[1:])
        os.close(fds[0])

    def _drain(self, port: Port) -> None:
        """Impair nothing from now on, and drop the line once it holds nothing."""
        held = self._held.get(port)
        if held is None:
            self._loop.call_soon(self._drained, port)
            return
        if not held.spec.draining:
            held.line.stop_impairing()
            spec = held.spec
            held.carry_out(LineSpec(spec.slot, buffer=spec.buffer, draining=True, queues=spec.queues), ())
        held.line.drain(port, draining=True)

    def _impair(self, cable: AttachedCable, number: int, spec: LineSpec, fds: list[int]) -> str:
        port = cable.ports[number]
        held = self._held.get(port)
        if held is None:
            return self._attach(cable, number, spec, fds)
        if not same(held.fds[0], fds[0]):
            if not held.line.empty:
                return f"{port.name}: another ring cannot be used while frames are held"
            self._forget(port)
            return self._attach(cable, number, spec, fds)
        try:
            self._change(held, spec, fds)
        except (OSError, ValueError) as error:
            return f"{port.name}: {error}"
        held.line.drain(port, draining=False)
        return ""

    def descriptors(self, ports: Iterable[Port]) -> tuple[int, ...]:
        """Return the descriptors of the lines of these ports, in order."""
        return tuple(fd for port in ports if port in self._held for fd in self._held[port].fds)

    def pause(self, ports: Iterable[Port], *, paused: bool) -> None:
        """Release nothing of these ports, or go on."""
        for port in ports:
            if port in self._held:
                self._held[port].line.pause(port, paused=paused)

    def tend(self) -> None:
        """Give back memory that is not used. To be called regularly."""
        for held in dict.fromkeys(self._held.values()):
            held.line.tend()

    def stop(self, ports: Iterable[Port]) -> None:
        """Read nothing more from these ports and leave the rings as they are; the descriptors stay open."""
        for port in ports:
            if port in self._held:
                self._held[port].line.remove(port)

    def close(self, ports: Iterable[Port]) -> None:
        """Close the descriptors of these ports, which are stopped, unless other ports of a line have them."""
        for port in ports:
            if port in self._held:
                self._forget(port)

    def _drop(self, line: Line) -> None:
        """Forget a line that holds nothing, and report that for each port."""
        if line.ports:
            give_back(self._held[line.ports[0]].ring)
        for port in line.ports:
            self._forget(port)
            self._drained(port)

    def _forget(self, port: Port) -> None:
        held = self._held.pop(port)
        held.line.remove(port)
        del held.members[port]
        if not held.members:
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
        if self._timer is not None:
            self._timer.clear()
        self._timetable.woken()

    def _watch(self) -> None:
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        if self._timetable.turn():
            if self._timetable.polling:
                os.sched_yield()
            self._loop.call_soon(self._turn)

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


def _report(line: str) -> None:
    """Write a line for the log, if the control plane reads."""
    with contextlib.suppress(OSError):
        os.write(_STDERR, f"{line}\n".encode())


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
