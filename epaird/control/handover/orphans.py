"""The workers that a predecessor left: each is one of ours, or gives what it has to one of ours.

One is ours that speaks as we do and has a number that we have.  The others, of older code or too many, are
asked for nothing but to let go.  Whoever is to have their cables runs before they do so, and they keep the
descriptors until everything is forwarded again: should we be killed meanwhile, the next one finds all of it.

What nobody had was a worker's that has died, and is accounted for before anybody has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from epaird.control.handover.ledgers import table_identity
from epaird.control.handover.predecessor import Survivor
from epaird.control.interfaces.ifnet import Ifnet
from epaird.control.interfaces.wires import Wire
from epaird.control.tasks import together
from epaird.control.workers.link import Attachment, Link, WorkerLost, WorkerRefused
from epaird.control.workers.processes import AdoptedProcess, Launched
from epaird.control.workers.worker import Worker
from epaird.ipc.ledger import Table
from epaird.ipc.messages import PROTOCOL, CableSpec
from epaird.kernel.statistics import LinkStatistics

log = logging.getLogger(__name__)

PATIENCE_S: Final = 1.0
"""How long a cable may take to be let go."""


@dataclass(slots=True, eq=False)
class _Left:
    """A survivor, and how it is spoken to."""

    survivor: Survivor
    worker: Worker | None
    """It is this one of ours."""
    link: Link

    async def let_go(self, cable: str) -> bool:
        """Have it let a cable go; whether it did, and did not die over it."""
        try:
            await self.link.keep(cable, PATIENCE_S)
        except WorkerRefused:  # it had let it go already
            return True
        except WorkerLost:
            return False
        return True

    async def drop(self, cable: str) -> None:
        """Have it keep nothing of a cable."""
        with contextlib.suppress(WorkerLost, WorkerRefused):
            await self.link.detach(cable, PATIENCE_S)


class Survivors:
    """All of them."""

    def __init__(self, survivors: Sequence[Survivor], workers: Sequence[Worker], table: Table) -> None:
        self._workers = workers
        self._table = table
        self._left: list[_Left] = []
        self._had: dict[int, set[tuple[_Left, str]]] = {}
        """Who had the interface that counts in a slot of the ledger, and its cable there: two while a worker
        was renewed."""
        self._letting_go: dict[tuple[_Left, str], asyncio.Task[bool]] = {}
        ours: dict[int, Survivor] = {}
        for each in survivors:
            if each.about.protocol == PROTOCOL and each.ledger == table_identity(table):
                ours.setdefault(each.about.worker, each)
        for survivor in survivors:
            number = survivor.about.worker
            with contextlib.suppress(ProcessLookupError):
                launched = Launched(AdoptedProcess(survivor.about.pid), survivor.connection)
                if ours.get(number) is survivor and number < len(workers):
                    worker = workers[number]
                    self._left.append(_Left(survivor, worker, worker.adopt(launched, survivor.path)))
                else:
                    self._left.append(_Left(survivor, None, _stranger(survivor, launched)))
        for left in self._left:
            for cable, have in left.survivor.cables.items():
                for slot in have.slots:
                    self._had.setdefault(slot, set()).add((left, cable))

    @property
    def numbers(self) -> set[int]:
        """Of those that there are."""
        return {left.survivor.about.worker for left in self._left}

    async def hand_over(self, wires: Sequence[Wire], measured: Mapping[Ifnet, LinkStatistics]) -> None:
        """Have the workers forward these wires.  ``measured`` is what the kernel says of their ends, where
        it is known.  Raises WorkerLost when there is no process for a worker."""
        wanted = {worker: dict(worker.attachments) for worker in self._workers}
        idle = [worker for worker in self._workers if not worker.forwards]
        for worker in idle:
            worker.attachments.clear()
        await together(
            *(worker.start() for worker in idle),
            *(left.worker.apply_settings() for left in self._left if left.worker is not None),
        )
        await together(
            *(
                self._take(wire, queue, worker, wanted[worker][cable], measured)
                for wire in wires
                for queue, (cable, worker) in enumerate(wire.cables)
            )
        )

    async def end(self) -> None:
        """Have those end that are none of ours, and ours keep nothing they need not."""
        await together(*(self._end(left) for left in self._left))

    async def _take(
        self,
        wire: Wire,
        queue: int,
        worker: Worker,
        wanted: Attachment,
        measured: Mapping[Ifnet, LinkStatistics],
    ) -> None:
        """Have a worker forward one queue of a wire."""
        holders = {holder for slot in wanted.spec.slots for holder in self._had.get(slot, ())}
        for left, cable in holders:
            have = left.survivor.cables[cable]
            if left.worker is worker and cable == wanted.cable and _same(have, wanted.spec):
                if have.mtus != wanted.spec.mtus:
                    await worker.resize(cable, wanted.spec.mtus)
                return
        let_go = await asyncio.gather(*(self._let_go(*holder) for holder in holders))
        for slot in wanted.spec.slots:
            self._table.migrate(slot)
        if holders and all(let_go):
            wire.rebase(queue)
        else:
            wire.settle_queue(queue, measured)
        try:
            await worker.attach(wanted)
        except (WorkerLost, WorkerRefused) as error:
            log.error("%s is not forwarded any more: %s", wanted.cable, error)

    def _let_go(self, left: _Left, cable: str) -> asyncio.Task[bool]:
        """Once, though it may lead to two interfaces that are wanted elsewhere."""
        key = left, cable
        if key not in self._letting_go:
            self._letting_go[key] = asyncio.ensure_future(left.let_go(cable))
        return self._letting_go[key]

    async def _end(self, left: _Left) -> None:
        worker = left.worker
        if worker is None:
            left.link.request_end()
            await left.link.wait(PATIENCE_S)
        else:
            unknown = left.survivor.cables.keys() - worker.attachments.keys()
            await together(*(left.drop(cable) for cable in unknown))


def _stranger(survivor: Survivor, launched: Launched) -> Link:
    link = Link("a worker that was left", launched, lambda _: None, Link.abandon)
    link.adopt(survivor.path, understands=survivor.about.protocol == PROTOCOL)
    return link


def _same(have: CableSpec, wanted: CableSpec) -> bool:
    return len(have.ports) == len(wanted.ports) and have == wanted.resized(have.mtus)
