"""Wires: what the workers do with interfaces, one cable for each queue.

A wire has two ends, which are each other's peers; or one, an unplugged half whose frames go nowhere, or a
loopback whose packets come back.  An interface is at the end of one wire at most; to change where it leads
its wire is let go and another is made, while its frames wait in the kernel's ring.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping
from typing import Final

from epaird.control.interfaces.ifnet import Half, Ifnet, Loopback
from epaird.control.interfaces.sightings import measured
from epaird.control.machine.host import Host
from epaird.control.tasks import spawn, together
from epaird.control.workers.worker import Attachment, Worker
from epaird.ipc import ledger, settlement
from epaird.ipc.ledger import Table
from epaird.ipc.messages import CableKind, CableSpec, PortSpec
from epaird.kernel.errors import KernelError
from epaird.kernel.statistics import LinkStatistics

log = logging.getLogger(__name__)

PATIENCE_S: Final = 1.0
"""How long a wire that is let go waits for a receiver that takes nothing."""


class Wire:
    """One wire."""

    def __init__(
        self,
        table: Table,
        ends: tuple[Half, Half] | tuple[Half] | tuple[Loopback],
        workers: tuple[Worker, ...],
    ) -> None:
        """``workers``: who forwards each queue."""
        self.ends: tuple[Half | Loopback, ...] = ends
        self.workers = workers
        self._table = table
        self._kind = _kind(ends)
        self._coalesce = len(ends) == 2 and all(map(_coalesces, ends))
        name = _name(ends)
        queues = len(workers)
        self._cables = (name,) if queues == 1 else tuple(f"{name}.{queue}" for queue in range(queues))
        self._bases: dict[tuple[int, Ifnet], int] = {}

    @property
    def cables(self) -> tuple[tuple[str, Worker], ...]:
        """Of each queue the cable, and who forwards it."""
        return tuple(zip(self._cables, self.workers, strict=True))

    @property
    def numbers(self) -> str:
        """The workers' numbers, ``0`` or ``0,1``."""
        return ",".join(map(str, sorted({worker.number for worker in self.workers})))

    async def attach(self) -> None:
        """Have it forwarded.  Raises WorkerLost or WorkerRefused, and then nothing of it is."""
        for end in self.ends:
            end.wire = self
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(self.detach)
            for queue, (cable, worker) in enumerate(self.cables):
                self.rebase(queue)
                await worker.attach(self._attachment(queue, cable))
            undo.pop_all()

    def rebase(self, queue: int) -> None:
        """What its ends have counted so far has nothing to do with what they count from now on."""
        for sender, receiver in self._directions:
            self._bases[queue, sender] = settlement.balance(
                self._table.read(sender.slots[queue]), self._table.read(receiver.slots[queue])
            )

    def adopt(self, bases: Mapping[tuple[int, Ifnet], int]) -> None:
        """Take it for forwarded, as a predecessor had it, with the ``bases`` it had; the workers learn what
        they are to forward by themselves."""
        for end in self.ends:
            end.wire = self
        for queue in range(len(self.workers)):
            self.rebase(queue)
        self._bases |= bases
        for queue, (cable, worker) in enumerate(self.cables):
            worker.attachments[cable] = self._attachment(queue, cable)

    def bases(self, sender: Ifnet) -> tuple[int, ...]:
        """What the balance of each queue of a sender was when it was plugged in."""
        return tuple(self._bases.get((queue, sender), 0) for queue in range(len(self.workers)))

    async def detach(self, patience: float = PATIENCE_S, *, keep: bool = False) -> None:
        """Have it let go; returns once no frame of it is in flight and nothing refers to it.

        With ``keep`` the workers have the descriptors still, until :meth:`forget`: should the control plane
        be killed before its ends are forwarded again, its successor gets them from there."""
        try:
            await together(*(worker.detach(cable, patience, keep=keep) for cable, worker in self.cables))
        finally:
            for end in self.ends:
                if end.wire is self:
                    end.wire = None

    async def forget(self) -> None:
        """Have the workers keep nothing of it, now that its ends are forwarded again."""
        await together(
            *(
                worker.drop(cable, PATIENCE_S)
                for cable, worker in self.cables
                if cable not in worker.attachments
            )
        )

    def resize(self) -> None:
        """Have frames measured by what are now the MTUs of its ends."""
        for cable, worker in self.cables:
            spawn(worker.resize(cable, self._mtus), f"resizing {cable}")

    def settle(self, worker: Worker, measured: Mapping[Ifnet, LinkStatistics]) -> None:
        """Account for the frames a worker had in hand when it died.

        With several queues the kernel's counters are those of all of them, and other workers go on;
        then only what had been counted as sent, and waited, is known to be lost."""
        for queue, each in enumerate(self.workers):
            if each is worker:
                self.settle_queue(queue, measured)

    def settle_queue(self, queue: int, measured: Mapping[Ifnet, LinkStatistics]) -> None:
        """The same for one queue, whoever forwarded it."""
        if self._kind == CableKind.UNPLUGGED:
            (end,) = self.ends
            read = measured[end].tx_packets if len(self.workers) == 1 and end in measured else 0
            settlement.settle_unplugged(self._table.slot(end.slots[queue]), read=read)
        for sender, receiver in self._directions:
            known = len(self.workers) == 1 and sender in measured and receiver in measured
            settlement.settle(
                *self._slots(queue, sender, receiver),
                read=measured[sender].tx_packets if known else None,
                written=measured[receiver].rx_packets if known else None,
                base=self._bases.get((queue, sender), 0),
            )

    def _attachment(self, queue: int, cable: str) -> Attachment:
        ports = tuple(PortSpec(end.device, end.slots[queue], end.mtu) for end in self.ends)
        spec = CableSpec(cable, ports, self._kind, self._coalesce)
        return Attachment(spec, tuple(end.tap.fds[queue] for end in self.ends))

    @property
    def _mtus(self) -> tuple[int, ...]:
        return tuple(end.mtu for end in self.ends)

    @property
    def _directions(self) -> tuple[tuple[Ifnet, Ifnet], ...]:
        """Senders and receivers."""
        if self._kind == CableKind.UNPLUGGED:
            return ()
        first, last = self.ends[0], self.ends[-1]
        return ((first, last),) if first is last else ((first, last), (last, first))

    def _slots(self, queue: int, sender: Ifnet, receiver: Ifnet) -> tuple[ledger.Words, ledger.Words]:
        return self._table.slot(sender.slots[queue]), self._table.slot(receiver.slots[queue])


def _kind(ends: tuple[Half | Loopback, ...]) -> str:
    end = ends[0]
    if isinstance(end, Loopback):
        return CableKind.REFLECT if end.settings.mode == "reflect" else CableKind.VERBATIM
    return CableKind.CABLE if len(ends) == 2 else CableKind.UNPLUGGED


def _name(ends: tuple[Half | Loopback, ...]) -> str:
    """Unique, since an interface is at the end of one wire at most."""
    if len(ends) == 1:
        return ends[0].device
    pairs = {end.pair.name for end in ends if isinstance(end, Half)}
    return pairs.pop() if len(pairs) == 1 else "-".join(end.device for end in ends)


def _coalesces(end: Half | Loopback) -> bool:
    return isinstance(end, Half) and end.pair.settings.coalesce and end.tap.takes_datagrams


def settle(host: Host, worker: Worker, ifnets: Iterable[Ifnet]) -> None:
    """A worker has died: settle its account with the wires of these, while nobody reads them."""
    wired = {ifnet: ifnet.wire for ifnet in ifnets if ifnet.wire is not None}
    if not wired:
        return
    try:
        found = measured(host, wired)
    except KernelError as error:
        log.warning("worker %d: what it lost is known in part only: %s", worker.number, error)
        found = {}
    for wire in dict.fromkeys(wired.values()):
        wire.settle(worker, found)
