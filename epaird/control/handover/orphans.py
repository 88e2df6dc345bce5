"""Orphans: the workers that a predecessor left. Each is adopted as a worker, or hands its cables over.

An orphan is adopted if it speaks this protocol, counts in this ledger and has the number of a worker. The
others, of older code or surplus, receive only the requests to detach and to end. The workers that are to
have their cables run before they detach them, and they keep the descriptors until everything is forwarded
again: if this process is killed before that, the next one finds all of them.

A cable that no orphan had belonged to a worker that has died; its frames are accounted for before another
worker attaches it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from epaird.control.handover.ledgers import table_identity
from epaird.control.handover.predecessor import Orphan
from epaird.control.interfaces.cables import DRAIN_TIMEOUT_S, Cable
from epaird.control.interfaces.ifnet import Ifnet
from epaird.control.tasks import together
from epaird.control.workers.link import Attachment, Link, WorkerLost, WorkerRefused
from epaird.control.workers.processes import AdoptedProcess, Launched
from epaird.control.workers.worker import Worker
from epaird.ipc.ledger import Table
from epaird.ipc.messages import PROTOCOL, CableSpec
from epaird.kernel.statistics import LinkStatistics

log = logging.getLogger(__name__)

EXIT_TIMEOUT_S: Final = 1.0
"""Time for an orphan to end before it is killed."""


@dataclass(slots=True, eq=False)
class _Linked:
    """An orphan and the link to it."""

    orphan: Orphan
    worker: Worker | None
    """The worker as which it was adopted, if it was."""
    link: Link

    async def detach(self, cable: str) -> bool:
        """Have the orphan detach a cable and keep its descriptors; return False if it died before."""
        try:
            await self.link.keep(cable, DRAIN_TIMEOUT_S)
        except WorkerRefused:  # it had detached the cable before
            return True
        except WorkerLost:
            return False
        return True

    async def drop(self, cable: str) -> None:
        """Have the orphan close what it keeps of a cable."""
        with contextlib.suppress(WorkerLost, WorkerRefused):
            await self.link.detach(cable, DRAIN_TIMEOUT_S)


class Orphans:
    """All orphans."""

    def __init__(self, orphans: Sequence[Orphan], workers: Sequence[Worker], table: Table) -> None:
        self._workers = workers
        self._table = table
        self._linked: list[_Linked] = []
        self._holders: dict[int, set[tuple[_Linked, str]]] = {}
        """The orphans that had the interface of a slot of the ledger, with the name of its cable there: two
        while a worker was being renewed."""
        self._detaching: dict[tuple[_Linked, str], asyncio.Task[bool]] = {}
        adoptable: dict[int, Orphan] = {}
        for each in orphans:
            if each.about.protocol == PROTOCOL and each.ledger == table_identity(table):
                adoptable.setdefault(each.about.worker, each)
        for orphan in orphans:
            number = orphan.about.worker
            try:
                process = AdoptedProcess(orphan.about.pid)
            except ProcessLookupError:  # it has died since it was asked
                orphan.connection.close()
                orphan.path.unlink(missing_ok=True)
                continue
            launched = Launched(process, orphan.connection)
            if adoptable.get(number) is orphan and number < len(workers):
                worker = workers[number]
                self._linked.append(_Linked(orphan, worker, worker.adopt(launched, orphan.path)))
            else:
                self._linked.append(_Linked(orphan, None, _foreign_link(orphan, launched)))
        for linked in self._linked:
            for cable, spec in linked.orphan.cables.items():
                for slot in spec.slots:
                    self._holders.setdefault(slot, set()).add((linked, cable))

    @property
    def numbers(self) -> set[int]:
        """The numbers of the workers that they are."""
        return {linked.orphan.about.worker for linked in self._linked}

    async def hand_over(self, cables: Sequence[Cable[Any]], measured: Mapping[Ifnet, LinkStatistics]) -> None:
        """Have the workers forward these cables.

        ``measured`` are the kernel's statistics of their ends, as far as they are known. Raises WorkerLost
        when a worker has no process."""
        wanted = {worker: dict(worker.attachments) for worker in self._workers}
        idle = [worker for worker in self._workers if not worker.forwards]
        for worker in idle:
            worker.attachments.clear()
        await together(
            *(worker.start() for worker in idle),
            *(linked.worker.apply_settings() for linked in self._linked if linked.worker is not None),
        )
        await together(
            *(
                self._take(cable, queue, worker, wanted[worker][name], measured)
                for cable in cables
                for queue, (name, worker) in enumerate(cable.queues)
            )
        )

    async def end(self) -> None:
        """End the orphans that were not adopted; have the others close surplus descriptors."""
        await together(*(self._end(linked) for linked in self._linked))

    async def _take(
        self,
        cable: Cable[Any],
        queue: int,
        worker: Worker,
        wanted: Attachment,
        measured: Mapping[Ifnet, LinkStatistics],
    ) -> None:
        """Have a worker forward one queue of a cable."""
        holders = {holder for slot in wanted.spec.slots for holder in self._holders.get(slot, ())}
        for linked, name in holders:
            spec = linked.orphan.cables[name]
            if linked.worker is worker and name == wanted.cable and _same(spec, wanted.spec):
                if spec.mtus != wanted.spec.mtus:
                    await worker.resize(name, wanted.spec.mtus)
                return
        detached = await asyncio.gather(*(self._detach(*holder) for holder in holders))
        for slot in wanted.spec.slots:
            self._table.migrate(slot)
        if holders and all(detached):
            cable.rebase(queue)
        else:
            cable.settle_queue(queue, measured)
        try:
            await worker.attach(wanted)
        except (WorkerLost, WorkerRefused) as error:
            log.error("%s is not forwarded any more: %s", wanted.cable, error)

    def _detach(self, linked: _Linked, cable: str) -> asyncio.Task[bool]:
        """Detach a cable once, even if both of its interfaces are wanted elsewhere."""
        key = linked, cable
        if key not in self._detaching:
            self._detaching[key] = asyncio.ensure_future(linked.detach(cable))
        return self._detaching[key]

    async def _end(self, linked: _Linked) -> None:
        worker = linked.worker
        if worker is None:
            linked.link.request_end()
            await linked.link.wait(EXIT_TIMEOUT_S)
        else:
            unknown = linked.orphan.cables.keys() - worker.attachments.keys()
            await together(*(linked.drop(cable) for cable in unknown))


def _foreign_link(orphan: Orphan, launched: Launched) -> Link:
    link = Link("an orphan", launched, lambda _: None, Link.abandon)
    link.adopt(orphan.path, understands=orphan.about.protocol == PROTOCOL)
    return link


def _same(spec: CableSpec, wanted: CableSpec) -> bool:
    return len(spec.ports) == len(wanted.ports) and spec == wanted.resized(spec.mtus)
