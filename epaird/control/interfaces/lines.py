"""Lines: the impairment of what a half transmits, and the ring of the frames that it holds.

A half has a line from the moment when it is impaired for the first time until it is destroyed: the slot of
the ledger and the ring stay, because the line's counters are terms of the half's books, and its decisions go
on where they were. A worker is given the ring with each cable between the half and the receiver.

1. While no worker has the ring, the control plane is its writer. It settles the ring of a worker that died
   (:mod:`epaird.ipc.settlement`), and leads the line to another receiver.
2. The ring holds frames for one receiver, which is recorded in the line's slot for the next control plane.
   Workers can write there, so the record is read once, at the takeover. What is held for a receiver that the
   line does not lead to any more is counted as ``ierrors`` of that receiver, for the reason ``write_error``.
3. With several queues, all queues have the same ring, and one worker has all of them. The receiver's slot
   is that of its first queue, in which all deliveries are counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from epaird.control.readings import LineReading
from epaird.ipc import ring, ringfile
from epaird.ipc.counters import TARGET
from epaird.ipc.impairment import LONGEST_NS, LineParameters, LineSpec
from epaird.ipc.ledger import Table, Words
from epaird.ipc.ringchanges import copy, give_back
from epaird.ipc.ringfile import holds
from epaird.ipc.ringsoundness import LOST, begin_anew, opened
from epaird.ipc.settlement import LineAccount, LineRing
from epaird.kernel.errors import KernelError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Applied:
    """The impairment of a line."""

    spec: LineSpec | None = None
    """The impairment that its worker has; None without one."""
    seed: int | None = None
    """As in :class:`OutgoingLine`."""
    trace: str = ""
    """Likewise."""


class UnmappedRing:
    """A ring that cannot be mapped: the slot of its line has the last counters."""

    def settle(self, written: int | None, receiver: Words) -> None:
        """Count nothing."""

    def mirror(self, words: Words) -> None:
        """Leave the slot as it is."""


class OutgoingLine:
    """The line of one half."""

    def __init__(self, device: str, table: Table, slot: int, ring_fd: int) -> None:
        """``device`` is the half that transmits; ``ring_fd`` is taken over."""
        self.device = device
        self.slot = slot
        """Its slot of the ledger."""
        self.spec: LineSpec | None = None
        """The impairment that applies; None for none."""
        self.draining = False
        """True while it has no impairment and its worker has not reported yet that it holds nothing."""
        self.seed: int | None = None
        """The seed of both directions, which the user has given or which is random."""
        self.trace = ""
        """The path of its trace; empty for none."""
        self._table = table
        self._words = table.line_slot(slot)
        self._ring_fd = ring_fd
        self._trace_fd = self._replay_fd = -1
        target = self._words[TARGET]
        self._receiver: int | None = target - 1 if 0 < target <= table.slots else None
        """Slot of the interface that the ring holds frames for."""
        self._uses = 0
        """The number of times that its ring was mapped or closed."""
        self._longest_ns = 0
        """The longest time for which any impairment that it had holds a frame."""

    @classmethod
    def create(cls, device: str, table: Table, slot: int, buffer: int) -> OutgoingLine:
        """Return a line with a new ring. Raises KernelError."""
        return cls(device, table, slot, _new_ring(device, buffer))

    @classmethod
    def adopt(
        cls,
        device: str,
        table: Table,
        slot: int,
        spec: LineSpec | None,
        fds: Sequence[int],
        *,
        draining: bool,
    ) -> OutgoingLine:
        """Return a predecessor's line. ``fds``, which are taken over, are the descriptors of its ring, its
        trace and its replay, as far as it has them.

        A ring that is missing or damaged is replaced. Raises KernelError."""
        ring_fd, *files = fds or (-1,)
        found = is_ring(ring_fd)
        if not found:
            if ring_fd >= 0:
                os.close(ring_fd)
            ring_fd = _new_ring(device, spec.buffer if spec is not None else 1)
        line = cls(device, table, slot, ring_fd)
        line._longest_ns = spec.longest_ns if spec is not None else LONGEST_NS
        if not found:
            log.warning("%s: its ring is missing or damaged: %s", device, LOST)
            line.begin_anew()
        rest = iter(files)
        if spec is not None:
            line.replace_files(
                trace=next(rest, -1) if spec.trace else -1, replay=next(rest, -1) if spec.replay else -1
            )
        for fd in rest:
            os.close(fd)
        line.apply(spec)
        line.draining = draining
        return line

    @property
    def applied(self) -> Applied:
        """The impairment that applies."""
        return Applied(self.spec, self.seed, self.trace)

    @property
    def buffer(self) -> int:
        """Bytes that it may hold."""
        return self.spec.buffer if self.spec is not None else 1

    @property
    def is_small(self) -> bool:
        """True while its ring has less room than its impairment may hold: :meth:`enlarge` replaces it."""
        try:
            return not holds(self._ring_fd, self.buffer)
        except ValueError:  # damaged, which is found when it is mapped
            return False

    @property
    def specs(self) -> tuple[LineSpec, ...]:
        """What the worker of a new cable is given."""
        if self.spec is not None:
            return (self.spec,)
        return (LineSpec(self.slot, draining=True, longest_ns=self._longest_ns),) if self.draining else ()

    @property
    def fds(self) -> tuple[int, ...]:
        """Descriptors that travel with ``specs``."""
        files = self._trace_fd, self._replay_fd
        return (self._ring_fd, *(fd for fd in files if fd >= 0)) if self.specs else ()

    @property
    def files(self) -> tuple[int, ...]:
        """All its descriptors, the ring's first."""
        return self._ring_fd, *(fd for fd in (self._trace_fd, self._replay_fd) if fd >= 0)

    @property
    def words(self) -> list[int]:
        """Its counters as they are now."""
        return self._table.read(self.slot)

    def reading(self) -> LineReading:
        """Return its present state."""
        parameters = self.spec.parameters if self.spec is not None else LineParameters()
        applied = self.spec is not None
        return LineReading(self.device, self.words, parameters, applied, self.buffer if applied else 0)

    def apply(self, spec: LineSpec | None) -> None:
        """Record the impairment that applies from now on."""
        self.draining = spec is None and (self.draining or self.spec is not None)
        if spec is not None:
            self._longest_ns = max(self._longest_ns, spec.longest())
            spec = replace(spec, slot=self.slot, draining=False, longest_ns=self._longest_ns)
        self.spec = spec

    def replace_files(self, *, trace: int = -1, replay: int = -1) -> None:
        """Take over the files of a trace and a replay, and close the former ones."""
        for fd in (self._trace_fd, self._replay_fd):
            if fd >= 0:
                os.close(fd)
        self._trace_fd, self._replay_fd = trace, replay

    def replace_replay(self, fd: int) -> None:
        """Take over the file of a replay, and close the former one."""
        if self._replay_fd >= 0:
            os.close(self._replay_fd)
        self._replay_fd = fd

    def drained(self) -> None:
        """Record that its worker holds nothing and has dropped it."""
        if self.spec is None:
            self.draining = False

    async def enlarge(self) -> None:
        """Replace its ring by a larger one with the same contents if its impairment may hold more.

        No worker may have the line. Where it is changed meanwhile, the ring stays as it is."""
        if not self.is_small:
            return
        with contextlib.ExitStack() as stack:
            try:
                larger_fd = _new_ring(self.device, self.buffer)
                stack.callback(lambda: os.close(larger_fd))
                mapped = stack.enter_context(self._mapped())
                larger = stack.enter_context(contextlib.closing(_map(self.device, larger_fd)))
            except KernelError as error:
                log.error("%s; as much is held as before", error)
                return
            uses = self._uses
            for _ in copy(mapped, larger):
                await asyncio.sleep(0)
            if self._uses == uses:
                os.dup2(larger_fd, self._ring_fd, inheritable=False)  # attachments have its number

    def lead_to(self, receiver: int | None) -> int:
        """Have it hold frames for the receiver of a slot from now on, or for none.

        Return how many frames of the former receiver were dropped. No worker may have the line, or write to
        the slots of either receiver."""
        try:
            dropped = self._lead(receiver)
        except KernelError as error:
            if self._receiver == receiver:
                log.error("%s; its worker may have the memory", error)
                return 0
            log.error("%s: %s", error, LOST)
            dropped = self.begin_anew()
            self._record(receiver)
        if dropped:
            log.info("%s: unplugged while impairment held %d frames: they are dropped", self.device, dropped)
        return dropped

    def _lead(self, receiver: int | None) -> int:
        dropped = 0
        with self._mapped() as mapped:  # also where nothing changes: a worker is given no damaged ring
            if self._receiver == receiver:
                return 0
            if self._receiver is not None:
                dropped = mapped.discard(self._table.slot(self._receiver)).frames
                mapped.mirror(self._words)
                self._record(None)
                self._renew(mapped)
        if receiver is not None:
            with self._mapped() as mapped:
                mapped.discard(self._table.slot(receiver))  # empty: records the receiver's counters
                self._record(receiver)
        return dropped

    def _renew(self, mapped: ring.Ring) -> None:
        """Replace its ring, which holds nothing, by another one with the same counters and decisions.

        A process that had the former one can write to it, and so to its receiver, as long as it lives."""
        with contextlib.ExitStack() as stack:
            try:
                fd = _new_ring(self.device, self.buffer)
                stack.callback(os.close, fd)
                fresh = stack.enter_context(contextlib.closing(_map(self.device, fd)))
            except KernelError as error:
                log.error("%s; its ring is used for the next receiver, too", error)
                give_back(mapped)
                return
            mapped.write = 0
            for _ in copy(mapped, fresh):
                pass
            os.dup2(fd, self._ring_fd, inheritable=False)

    def begin(self, receiver: int) -> None:
        """Record the receiver of a line whose ring its worker is about to be given for the first time."""
        if self._receiver is None:
            self._record(receiver)

    def leads_to(self, slots: Iterable[int]) -> bool:
        """Return whether it holds frames for a receiver of one of these slots."""
        return self._receiver is not None and self._receiver in slots

    @contextlib.contextmanager
    def account(self) -> Iterator[LineAccount]:
        """Provide its account, while no worker has it."""
        with contextlib.ExitStack() as stack:
            kept: LineRing = UnmappedRing()
            try:
                kept = stack.enter_context(self._mapped())
            except KernelError as error:
                log.error("%s; the last frames that impairment delivered may be delivered again", error)
            yield LineAccount(self._words, kept)

    def decisions(self) -> list[tuple[int, int]]:
        """Return the last decisions: the number of a segment and its fate.

        Its worker may write to the ring meanwhile, so the state is not read: it could seem damaged."""
        return ringfile.logged(self._ring_fd)

    def close(self) -> None:
        """Close its files."""
        self._uses += 1
        self.replace_files()
        if self._ring_fd >= 0:
            os.close(self._ring_fd)
            self._ring_fd = -1

    def _record(self, receiver: int | None) -> None:
        self._receiver = receiver
        self._words[TARGET] = 0 if receiver is None else receiver + 1

    def begin_anew(self) -> int:
        """Empty its ring, whose contents are of no use, and count what it held, which is returned.

        Raises KernelError."""
        try:
            return begin_anew(self._ring_fd, self._words, self._receiver_words)
        except OSError as error:
            raise _no_ring(self.device, error) from error

    @property
    def _receiver_words(self) -> Words | None:
        return self._table.slot(self._receiver) if self._receiver is not None else None

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[ring.Ring]:
        """Map its ring, which no process has. Raises KernelError."""
        self._uses += 1
        try:
            mapped, fault = opened(self._ring_fd, self._words, self._receiver_words)
        except OSError as error:
            raise _no_ring(self.device, error) from error
        if fault:  # a worker has damaged it
            log.error("%s: %s: %s", self.device, fault, LOST)
        with contextlib.closing(mapped):
            yield mapped


def _map(device: str, fd: int) -> ring.Ring:
    try:
        return ring.Ring(fd)
    except OSError as error:
        raise _no_ring(device, error) from error


def _no_ring(device: str, error: OSError) -> KernelError:
    return KernelError(error.errno or errno.ENOMEM, f"{device}: impairment: {error.strerror}")


def _new_ring(device: str, buffer: int) -> int:
    try:
        return ring.create(device, buffer)
    except OSError as error:
        raise _no_ring(device, error) from error


def is_ring(fd: int) -> bool:
    """Return whether a descriptor from another process can be that of a ring. A worker may have the ring, and
    what it writes meanwhile may seem damaged: the contents are judged when no worker has it."""
    try:
        ringfile.check(fd)
    except (OSError, ValueError):
        return False
    return True
