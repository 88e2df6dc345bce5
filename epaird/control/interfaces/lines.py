"""Lines: the impairment of what a half transmits, and the ring of the frames that it holds.

A half has a line from the moment when it is impaired for the first time until it is destroyed: the slot of
the ledger and the ring stay, because the line's counters are terms of the half's books, and its decisions go
on where they were. A worker is given the ring with each cable between the half and the receiver.

1. While no worker has the ring, the control plane is its writer. It settles the ring of a worker that died
   (:mod:`epaird.ipc.settlement`), and leads the line to another receiver.
2. The ring holds frames for one receiver, which is recorded in the line's slot: a control plane that is
   killed leaves it to the next one. What is held for a receiver that the line does not lead to any more is
   counted as ``ierrors`` of that receiver, for the reason ``write_error``.
3. With several queues, all queues have the same ring, and one worker has all of them. The receiver's slot
   is that of its first queue, in which all deliveries are counted.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from epaird.control.readings import LineReading
from epaird.ipc import ring
from epaird.ipc.counters import TARGET
from epaird.ipc.impairment import LineParameters, LineSpec
from epaird.ipc.ledger import Table
from epaird.ipc.settlement import LineAccount
from epaird.kernel.errors import KernelError

log = logging.getLogger(__name__)


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
        if not is_ring(ring_fd):
            log.warning("%s: what impairment held is lost: its ring is missing or damaged", device)
            if ring_fd >= 0:
                os.close(ring_fd)
            table.line_slot(slot)[TARGET] = 0
            ring_fd = _new_ring(device, spec.buffer if spec is not None else 1)
        line = cls(device, table, slot, ring_fd)
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
    def buffer(self) -> int:
        """Bytes of its ring."""
        return self.spec.buffer if self.spec is not None else 1

    @property
    def specs(self) -> tuple[LineSpec, ...]:
        """What the worker of a new cable is given."""
        if self.spec is not None:
            return (self.spec,)
        return (LineSpec(self.slot, draining=True),) if self.draining else ()

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
        return LineReading(self.device, self.words, parameters, self.spec is not None)

    def apply(self, spec: LineSpec | None) -> None:
        """Record the impairment that applies from now on."""
        self.draining = spec is None and (self.draining or self.spec is not None)
        self.spec = None if spec is None else replace(spec, slot=self.slot, draining=False)

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

    def lead_to(self, receiver: int | None) -> int:
        """Have it hold frames for the receiver of a slot from now on, or for none.

        Return how many frames of the former receiver were dropped. No worker may have the line, or write to
        the slots of either receiver."""
        before = self._words[TARGET] - 1
        if before == (-1 if receiver is None else receiver):
            return 0
        dropped = 0
        with self._mapped() as mapped:
            if before >= 0:
                dropped = mapped.discard(self._table.slot(before)).frames
                mapped.mirror(self._words)
                self._words[TARGET] = 0
            if receiver is not None:
                mapped.discard(self._table.slot(receiver))  # empty: records the receiver's counters
                self._words[TARGET] = receiver + 1
        if dropped:
            log.info("%s: unplugged while impairment held %d frames: dropped", self.device, dropped)
        return dropped

    def begin(self, receiver: int) -> None:
        """Record the receiver of a line whose ring its worker is about to be given for the first time."""
        if not self._words[TARGET]:
            self._words[TARGET] = receiver + 1

    def leads_to(self, slots: Iterable[int]) -> bool:
        """Return whether it holds frames for a receiver of one of these slots."""
        return self._words[TARGET] - 1 in slots

    @contextlib.contextmanager
    def account(self) -> Iterator[LineAccount]:
        """Provide its account, while no worker has it."""
        with self._mapped() as mapped:
            yield LineAccount(self._words, mapped)

    def decisions(self) -> list[tuple[int, int]]:
        """Return the last decisions: the number of a segment and its fate."""
        with self._mapped() as mapped:
            return list(mapped.decisions())

    def close(self) -> None:
        """Close its files."""
        self.replace_files()
        if self._ring_fd >= 0:
            os.close(self._ring_fd)
            self._ring_fd = -1

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[ring.Ring]:
        try:
            mapped = ring.Ring(self._ring_fd)
        except ValueError as error:  # a worker has damaged it
            log.error("%s: the frames that impairment held are lost: %s", self.device, error)
            os.close(self._ring_fd)
            self._ring_fd = _new_ring(self.device, self.buffer)
            mapped = ring.Ring(self._ring_fd)
        with contextlib.closing(mapped):
            yield mapped


def _new_ring(device: str, buffer: int) -> int:
    try:
        return ring.create(device, buffer)
    except OSError as error:
        raise KernelError(error.errno or errno.ENOMEM, f"{device}: impairment: {error.strerror}") from error


def is_ring(fd: int) -> bool:
    """Return whether a descriptor from another process is that of a ring."""
    try:
        ring.Ring(fd).close()
    except (OSError, ValueError):
        return False
    return True
