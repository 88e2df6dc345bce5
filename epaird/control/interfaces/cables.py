"""Cables: the forwarding paths that the workers have, with one queue or several.

A cable has two ends, which are each other's peers; or one end: an unplugged half, whose frames are dropped,
or a loopback, whose packets return to it. An interface is an end of at most one cable. To change its peer,
its cable is detached and another one is attached; its frames wait in the kernel's ring in between.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Generic, Protocol, TypeVar

from epaird.control.interfaces.lines import OutgoingLine
from epaird.control.tasks import spawn, together
from epaird.control.workers.worker import Attachment, Worker
from epaird.ipc import ledger, settlement
from epaird.ipc.ledger import Table
from epaird.ipc.messages import CableKind, CableSpec, PortSpec
from epaird.ipc.settlement import Correction, LineAccount
from epaird.kernel.statistics import LinkStatistics
from epaird.kernel.tun import Tap

DRAIN_TIMEOUT_S: Final = 1.0
"""Time for which a cable that is detached waits for a receiver that takes no frames."""


class CableEnd(Protocol):
    """An interface, as its cable sees it."""

    device: str
    tap: Tap
    slots: tuple[int, ...]
    """Slot of the ledger of each queue."""
    mtu: int
    """MTU in bytes."""
    cable: Cable[Any] | None
    """The cable that it is an end of."""

    @property
    def line(self) -> OutgoingLine | None:
        """The impairment of what it transmits; None if it never had one."""

    @property
    def offload(self) -> bool:
        """True where its owner takes super-frames and unfinished checksums."""

    @property
    def pmtu(self) -> bool:
        """True where its owner gets ICMP messages about packets that are too long for the peer."""


E = TypeVar("E", bound=CableEnd)


class Cable(Generic[E]):
    """One cable: one entry in a worker's list for each queue."""

    def __init__(
        self,
        table: Table,
        name: str,
        kind: str,
        ends: tuple[E, ...],
        workers: tuple[Worker, ...],
        *,
        coalesce: bool = False,
    ) -> None:
        """``name`` is unique, ``kind`` one of CableKind; ``workers`` has the worker of each queue."""
        self.ends = ends
        self.workers = workers
        self._table = table
        self._kind = kind
        self._coalesce = coalesce
        queues = len(workers)
        self._names = (name,) if queues == 1 else tuple(f"{name}.{queue}" for queue in range(queues))
        self._bases: dict[tuple[int, E], int] = {}
        self._joinings: dict[E, list[int]] = {}
        """By receiver, the words JOINING of processes that died."""
        self.deaths = 0
        """Processes that have died with one of several queues."""
        self.unsettled = False
        """True while frames of such a process are not counted."""
        self.handed_over = [True] * queues
        """For each queue, False while a predecessor's process may have it that is not its worker's."""
        self.balancing: asyncio.Task[None] | None = None
        """The task that settles its account."""

    @property
    def queues(self) -> tuple[tuple[str, Worker], ...]:
        """For each queue its name and its worker."""
        return tuple(zip(self._names, self.workers, strict=True))

    @property
    def numbers(self) -> str:
        """Numbers of the workers: ``0`` or ``0,1``."""
        return ",".join(map(str, sorted({worker.number for worker in self.workers})))

    @property
    def has_lines(self) -> bool:
        """True where its queues have a line in common, which one process has at a time with all of them."""
        return self._kind == CableKind.CABLE and any(end.line is not None for end in self.ends)

    async def attach(self) -> None:
        """Have the workers forward the cable.

        Raises WorkerLost or WorkerRefused, and then no queue is attached."""
        await self.enlarge_lines()
        for end in self.ends:
            end.cable = self
        self.lead_lines()
        for queue in range(len(self.workers)):
            self.rebase(queue)
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(self.detach)
            for queue, (name, worker) in enumerate(self.queues):
                await worker.attach(self._attachment(queue, name))
            undo.pop_all()

    async def enlarge_lines(self) -> None:
        """Give the lines of its ends rings of the size that they need. No worker may have any queue of it."""
        for end in self.ends:
            if end.line is not None:
                await end.line.enlarge()

    def lead_lines(self) -> None:
        """Lead the lines of its ends to their receivers. No worker may have any queue of it."""
        receivers = {sender: receiver.slots[0] for sender, receiver in self._directions}
        for end in self.ends:
            if end.line is not None:
                end.line.lead_to(receivers.get(end))

    def rebase(self, queue: int) -> None:
        """Take the present counters of the ends as the base from which lost frames are calculated."""
        for sender, receiver in self._directions:
            # A line has one slot for all queues.
            line = sender.line.words if sender.line is not None and queue == 0 else None
            self._bases[queue, sender] = settlement.balance(
                self._table.read(sender.slots[queue]), self._table.read(receiver.slots[queue]), line
            )

    async def impair(self, sender: E) -> None:
        """Have the workers apply the present impairment of an end. Raises WorkerRefused."""
        line = sender.line
        if line is None or self._kind != CableKind.CABLE:
            return
        port = self.ends.index(sender)
        await together(
            *(
                worker.impairing.apply(self.wanted(queue), port)
                for queue, (_, worker) in enumerate(self.queues)
            )
        )

    def adopt(self, bases: Mapping[tuple[int, E], int]) -> None:
        """Record the cable as attached, as a predecessor had it, with its ``bases``.

        No worker is given it: whether a process forwards a queue already is found out separately, and then
        the queue is ``handed_over``."""
        for end in self.ends:
            end.cable = self
        for queue in range(len(self.workers)):
            self.rebase(queue)
        self._bases |= bases
        self.handed_over = [False] * len(self.workers)

    def wanted(self, queue: int) -> Attachment:
        """Return what the worker of a queue is to forward."""
        return self._attachment(queue, self._names[queue])

    def bases(self, sender: E) -> tuple[int, ...]:
        """Return the balance of each queue of a sender at the time when it was attached."""
        return tuple(self._bases.get((queue, sender), 0) for queue in range(len(self.workers)))

    async def detach(self, patience: float = DRAIN_TIMEOUT_S, *, keep: bool = False) -> None:
        """Detach the cable; return once no frame of it is in flight and nothing refers to it.

        ``patience`` is how many seconds its frames may wait for a receiver. With ``keep`` the workers keep
        the descriptors until :meth:`forget`: if the control plane is killed before the ends are forwarded
        again, its successor receives them from there."""
        if self.balancing is not None:
            self.balancing.cancel()
        try:
            await together(*(worker.detach(name, patience, keep=keep) for name, worker in self.queues))
        finally:
            for end in self.ends:
                if end.cable is self:
                    end.cable = None

    async def forget(self) -> None:
        """Have the workers close the descriptors that they kept, once the ends are forwarded again."""
        await together(
            *(
                worker.drop(name, DRAIN_TIMEOUT_S)
                for name, worker in self.queues
                if name not in worker.attachments
            )
        )

    def resize(self) -> None:
        """Have the workers apply the present MTUs of the ends."""
        for name, worker in self.queues:
            spawn(worker.resize(name, self._mtus), f"resizing {name}")

    def settle(self, worker: Worker, measured: Mapping[E, LinkStatistics]) -> None:
        """Account for the frames that a worker had in hand when it died; later, if others have queues, too.

        Queues that another process may still read are left out."""
        if len(self.workers) > 1 and set(self.workers) == {worker} and all(self.handed_over):
            self.settle_all(measured)
            return
        for queue, each in enumerate(self.workers):
            if each is worker and self.handed_over[queue]:
                self.settle_queue(queue, measured)

    def settle_queue(self, queue: int, measured: Mapping[E, LinkStatistics]) -> None:
        """Account likewise for one queue, whichever worker forwarded it."""
        if len(self.workers) > 1:
            self._end_process(queue)
            return
        if self._kind == CableKind.UNPLUGGED:
            (end,) = self.ends
            read = measured[end].tx_packets if end in measured else 0
            settlement.settle_unplugged(self._table.slot(end.slots[queue]), read=read)
        for sender, receiver in self._directions:
            known = sender in measured and receiver in measured
            with _account(sender) as line:
                settlement.settle(
                    *self._slots(queue, sender, receiver),
                    read=measured[sender].tx_packets if known else None,
                    written=measured[receiver].rx_packets if known else None,
                    base=self._bases.get((queue, sender), 0),
                    line=line,
                )

    def settle_all(self, measured: Mapping[E, LinkStatistics]) -> None:
        """Account likewise for several queues while no process has any of them."""
        for queue in range(len(self.workers)):
            self._end_process(queue)
        self._settle_lines(measured)
        with contextlib.suppress(KeyError):  # a device is gone
            self.amend(self.corrections(measured))

    def _settle_lines(self, measured: Mapping[E, LinkStatistics]) -> None:
        for sender, receiver in self._directions:
            with _account(sender) as line:
                if line is not None:
                    settlement.settle_line(
                        [self._table.slot(slot) for slot in receiver.slots],
                        line,
                        written=measured[receiver].rx_packets if receiver in measured else None,
                    )

    def corrections(self, measured: Mapping[E, LinkStatistics]) -> tuple[Correction, ...]:
        """Return the frames that the counters of all queues together lack, for each end as the sender.

        No queue may be read or written meanwhile."""
        if self._kind == CableKind.UNPLUGGED:
            (end,) = self.ends
            return (settlement.correction_unplugged(self._read(end), read=measured[end].tx_packets),)
        return tuple(
            settlement.correction(
                self._read(sender),
                self._read(receiver),
                read=measured[sender].tx_packets,
                written=measured[receiver].rx_packets,
                base=sum(self.bases(sender)),
                joinings=self._joinings.get(receiver, ()),
                line=sender.line.words if sender.line is not None else None,
            )
            for sender, receiver in self._directions
        )

    def amend(self, corrections: Sequence[Correction]) -> None:
        """Add missing frames to the counters of the first queue, which no process may have."""
        for (sender, receiver), missing in zip(
            self._directions or (self.ends * 2,), corrections, strict=True
        ):
            settlement.amend(*self._slots(0, sender, receiver), missing)
        self.settled(self.deaths)

    def settled(self, deaths: int) -> None:
        """Record that nothing is missing any more of the processes that had died by then."""
        if self.deaths == deaths:
            self.unsettled = False
            self._joinings.clear()

    def _end_process(self, queue: int) -> None:
        """Clear what a process that has died left behind, and record that its frames are to be counted."""
        for sender, receiver in self._directions or (self.ends * 2,):
            joining = settlement.end_process(*self._slots(queue, sender, receiver))
            if joining:
                self._joinings.setdefault(receiver, []).append(joining)
        self.deaths += 1
        self.unsettled = True

    def _read(self, end: E) -> list[list[int]]:
        return [self._table.read(slot) for slot in end.slots]

    def _attachment(self, queue: int, name: str) -> Attachment:
        lines = [end.line if self._kind == CableKind.CABLE else None for end in self.ends]
        receivers = {sender: receiver.slots[0] for sender, receiver in self._directions}
        ports = tuple(
            PortSpec(
                end.device, end.slots[queue], end.mtu, end.offload, end.pmtu,
                tuple(
                    replace(each, queues=len(self.workers), receiver=receivers[end]) for each in line.specs
                ) if line else (),
            )
            for end, line in zip(self.ends, lines, strict=True)
        )  # fmt: skip
        spec = CableSpec(name, ports, self._kind, self._coalesce)
        files = tuple(line.fds if line is not None else () for line in lines)
        return Attachment(spec, tuple(end.tap.fds[queue] for end in self.ends), files)

    @property
    def _mtus(self) -> tuple[int, ...]:
        return tuple(end.mtu for end in self.ends)

    @property
    def _directions(self) -> tuple[tuple[E, E], ...]:
        """The sender and the receiver of each direction."""
        if self._kind == CableKind.UNPLUGGED:
            return ()
        first, last = self.ends[0], self.ends[-1]
        return ((first, last),) if first is last else ((first, last), (last, first))

    def _slots(self, queue: int, sender: E, receiver: E) -> tuple[ledger.Words, ledger.Words]:
        return self._table.slot(sender.slots[queue]), self._table.slot(receiver.slots[queue])


@contextlib.contextmanager
def _account(sender: CableEnd) -> Iterator[LineAccount | None]:
    """Provide the account of the line of an end, None where it has none."""
    if sender.line is None:
        yield None
        return
    with sender.line.account() as account:
        yield account
