"""Orphans: the workers that a predecessor left. Each is adopted as a worker, or hands its cables over.

An orphan is adopted if it speaks this protocol, counts in this ledger and has the number of a worker that has
no process yet. The others, of older code or surplus, receive only the requests to detach and to end. The
workers that are to have their cables run before they detach them, and they keep the descriptors until
everything is forwarded again: if this process is killed before that, the next one finds all of them.

Any process may be killed at any moment of this, and no queue may get two readers:

1. A worker that adopts an orphan is given, as its attachments, exactly the cables that this orphan forwards
   for it. If the orphan dies, the worker's ordinary replacement forwards these again.
2. Every other cable belongs to no worker at first. It is attached to its worker after every other orphan that
   has it has detached it, or has ended.
3. An orphan that had a cable and died took frames with it. They are accounted for after it has ended, by
   counters of the kernel that are read after that.
4. An orphan that does not answer a request in time is killed, and thereby one that has died.
5. At the end the orphans that were not adopted are ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from epaird.control.handover.ledgers import table_identity
from epaird.control.handover.predecessor import Orphan
from epaird.control.interfaces.cables import DRAIN_TIMEOUT_S, Cable
from epaird.control.interfaces.ifnet import Ifnet
from epaird.control.tasks import together
from epaird.control.workers.attachment import Attachment, WorkerLost, WorkerRefused
from epaird.control.workers.link import Link
from epaird.control.workers.processes import AdoptedProcess, Launched
from epaird.control.workers.readers import Readers
from epaird.control.workers.starting import STARTS
from epaird.control.workers.worker import Worker
from epaird.ipc.ledger import Table
from epaird.ipc.messages import PROTOCOL, CableKind, CableSpec
from epaird.kernel.senders import has_ended, reap_process
from epaird.kernel.statistics import LinkStatistics

log = logging.getLogger(__name__)

EXIT_TIMEOUT_S: Final = 1.0
"""Time for an orphan to end before it is killed."""
ANSWER_S: Final = 5.0
"""Time for an orphan to answer a request, besides that for which frames may wait; then it is killed. The
watchdog finds most orphans that have hung sooner, where it is not disabled."""

Measure = Callable[[Iterable[Ifnet]], Mapping[Ifnet, LinkStatistics]]
"""Returns the kernel's statistics of interfaces as they are now, as far as they are known."""


@dataclass(slots=True, eq=False)
class _Linked:
    """An orphan and the link to it."""

    orphan: Orphan
    worker: Worker | None
    """The worker as which it was adopted, if it was."""
    link: Link
    _detached: dict[str, asyncio.Future[bool]] = field(default_factory=dict)

    async def detach(self, cable: str) -> bool:
        """Have the orphan detach a cable, once, and keep its descriptors.

        Return once it does not read it any more, and whether it is alive: False after it has ended."""
        if cable not in self._detached:
            self._detached[cable] = asyncio.ensure_future(self._detach(cable))
        return await self._detached[cable]

    async def _detach(self, cable: str) -> bool:
        try:
            await self.answered(self.link.keep(cable, DRAIN_TIMEOUT_S))
        except WorkerRefused:  # it had detached the cable before
            return True
        except WorkerLost:
            await self.link.wait(EXIT_TIMEOUT_S)
            return False
        return True

    async def drop(self, cable: str) -> None:
        """Have the orphan close what it keeps of a cable."""
        with contextlib.suppress(WorkerLost, WorkerRefused):
            await self.answered(self.link.detach(cable, DRAIN_TIMEOUT_S))

    async def answered(self, answer: Awaitable[None]) -> None:
        """Wait for an answer; kill the orphan when it takes too long. Raises WorkerLost or WorkerRefused."""
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S + ANSWER_S):
                await answer
        except TimeoutError:
            log.warning("orphan worker (pid %d) does not answer; killing it", self.link.pid)
            self.link.kill()
            raise WorkerLost(f"an orphan (pid {self.link.pid}) was killed") from None


@dataclass(frozen=True, slots=True)
class _Queue:
    """One queue of a cable that is to be forwarded."""

    cable: Cable[Any]
    number: int
    worker: Worker
    wanted: Attachment


class Orphans:
    """All orphans."""

    def __init__(
        self,
        orphans: Sequence[Orphan],
        workers: Sequence[Worker],
        table: Table,
        cables: Sequence[Cable[Any]],
        readers: Readers | None = None,
    ) -> None:
        """Adopt orphans as ``workers``, which have no processes and no attachments.

        ``cables`` are those that are to be forwarded; ``readers`` are those of all queues."""
        self._workers = workers
        self._table = table
        self._readers = readers if readers is not None else Readers()
        self._linked: list[_Linked] = []
        self._holders: dict[int, set[tuple[_Linked, str]]] = {}
        """The orphans that had the interface of a slot of the ledger, with the name of its cable there: two
        while a worker was being renewed."""
        self._queues = [
            _Queue(cable, number, worker, cable.wanted(number))
            for cable in cables
            for number, worker in enumerate(cable.workers)
        ]
        self._forwarded: set[tuple[Worker, str]] = set()
        """The cables that an orphan which was adopted forwards for its worker."""
        for orphan in orphans:
            self._link(orphan)

    def _link(self, orphan: Orphan) -> None:
        if has_ended(orphan.pidfd):  # since it was asked
            reap_process(orphan.pidfd)
            os.close(orphan.pidfd)
            orphan.connection.close()
            orphan.path.unlink(missing_ok=True)
            return
        launched = Launched(AdoptedProcess(orphan.pid, orphan.pidfd), orphan.connection)
        number = orphan.about.worker
        usable = orphan.about.protocol == PROTOCOL and orphan.ledger == table_identity(self._table)
        worker = self._workers[number] if usable and number < len(self._workers) else None
        if worker is None or worker.forwards:  # of two with one number, the first is adopted
            link = Link("an orphan", launched, lambda _: None, Link.abandon, self._readers)
            link.adopt(orphan.path, orphan.cables.values(), understands=orphan.about.protocol == PROTOCOL)
            linked = _Linked(orphan, None, link)
        else:
            cables, lines = orphan.cables.values(), orphan.about.lines
            linked = _Linked(orphan, worker, worker.adopt(launched, orphan.path, cables, lines=lines))
            self._give(orphan, worker)
        self._linked.append(linked)
        for cable, spec in orphan.cables.items():
            for slot in spec.slots:
                self._holders.setdefault(slot, set()).add((linked, cable))

    def _give(self, orphan: Orphan, worker: Worker) -> None:
        """Give a worker the cables that the orphan it adopted forwards already."""

        def forwards(queue: _Queue) -> bool:
            spec = orphan.cables.get(queue.wanted.cable)
            return queue.worker is worker and spec is not None and _same(spec, queue.wanted.spec)

        for queues in self._groups():
            for queue in queues if all(map(forwards, queues)) else ():
                worker.attachments[queue.wanted.cable] = queue.wanted
                queue.cable.handed_over[queue.number] = True
                self._forwarded.add((worker, queue.wanted.cable))

    def _groups(self) -> list[list[_Queue]]:
        """Return the queues in groups that are taken over together: those that have a line in common."""
        groups: dict[tuple[Cable[Any], int], list[_Queue]] = {}
        for queue in self._queues:
            groups.setdefault((queue.cable, 0 if queue.cable.has_lines else queue.number), []).append(queue)
        return list(groups.values())

    @property
    def numbers(self) -> set[int]:
        """The numbers of the workers that they are."""
        return {linked.orphan.about.worker for linked in self._linked}

    async def hand_over(self, measure: Measure) -> None:
        """Have the workers forward every cable. Raises WorkerLost when a worker has no process."""
        # Those that no orphan has: nothing reads them, so their counters are at rest already.
        resting = measure({end for queue in self._queues if not self._of(queue) for end in queue.cable.ends})
        await together(
            *(worker.start(STARTS) for worker in self._workers if not worker.forwards),
            *(self._tune(linked) for linked in self._linked if linked.worker is not None),
        )
        await together(*(self._take(queues, resting, measure) for queues in self._groups()))

    async def end(self) -> None:
        """End the orphans that were not adopted; have the others close surplus descriptors."""
        await together(*(self._end(linked) for linked in self._linked))

    def _of(self, queue: _Queue) -> set[tuple[_Linked, str]]:
        """Return the orphans that had a queue, each with the name of the cable there."""
        return {holder for slot in queue.wanted.spec.slots for holder in self._holders.get(slot, ())}

    async def _tune(self, linked: _Linked) -> None:
        with contextlib.suppress(WorkerLost):
            if linked.worker is not None:
                await linked.answered(linked.worker.apply_settings())

    async def _take(
        self, queues: Sequence[_Queue], resting: Mapping[Ifnet, LinkStatistics], measure: Measure
    ) -> None:
        """Have the workers of a group of queues forward them, once no orphan has any."""
        freed = await asyncio.gather(*(self._freed(queue) for queue in queues))
        taken = [(queue, alive) for queue, alive in zip(queues, freed, strict=True) if alive is not None]
        if not taken:
            return
        cable = queues[0].cable
        for queue, _ in taken:
            for slot in queue.wanted.spec.slots:
                self._table.migrate(slot)
        if all(alive and all(alive) for _, alive in taken):
            for queue, _ in taken:
                cable.rebase(queue.number)
        else:
            known = measure(cable.ends) if any(alive for _, alive in taken) else resting
            if len(queues) > 1:
                cable.settle_all(known)
            else:
                cable.settle_queue(queues[0].number, known)
        for queue, _ in taken:
            cable.handed_over[queue.number] = True
        cable.lead_lines()
        await cable.enlarge_lines()
        await together(*(self._attach(queue) for queue, _ in taken))

    async def _freed(self, queue: _Queue) -> list[bool] | None:
        """Have the orphans that had a queue detach it, unless one forwards it for its worker.

        Return for each whether it is alive, or None when the worker forwards the queue already."""
        worker, cable, holders = queue.worker, queue.wanted.cable, self._of(queue)
        forwarded = (worker, cable) in self._forwarded
        if forwarded:
            holders = {each for each in holders if each[0].worker is not worker or each[1] != cable}
        alive = await asyncio.gather(*(linked.detach(name) for linked, name in holders))
        if forwarded:
            await self._resize(queue)
            return None
        return alive

    async def _resize(self, queue: _Queue) -> None:
        """Apply the present MTUs to a cable that its orphan forwards."""
        for linked in self._linked:
            if linked.worker is queue.worker:
                spec = linked.orphan.cables[queue.wanted.cable]
                if spec.mtus != queue.wanted.spec.mtus:
                    with contextlib.suppress(WorkerLost, WorkerRefused):
                        await linked.answered(queue.worker.resize(queue.wanted.cable, queue.wanted.spec.mtus))

    async def _attach(self, queue: _Queue) -> None:
        attaching = asyncio.ensure_future(queue.worker.attach(queue.wanted))
        await asyncio.wait((attaching,), timeout=ANSWER_S)
        if not attaching.done() and queue.worker.forwards:
            log.warning("worker %d does not attach %s; killing it", queue.worker.number, queue.wanted.cable)
            queue.worker.kill()  # its replacement attaches it
        try:
            await attaching
        except (WorkerLost, WorkerRefused) as error:
            log.error("%s is not forwarded any more: %s", queue.wanted.cable, error)

    async def _end(self, linked: _Linked) -> None:
        worker = linked.worker
        if worker is None:
            linked.link.request_end()
            await linked.link.wait(EXIT_TIMEOUT_S)
        else:
            unknown = linked.orphan.cables.keys() - worker.attachments.keys()
            await together(*(linked.drop(cable) for cable in unknown))


def _same(spec: CableSpec, wanted: CableSpec) -> bool:
    return (
        spec.kind != CableKind.KEPT
        and len(spec.ports) == len(wanted.ports)
        and spec == wanted.resized(spec.mtus)
    )
