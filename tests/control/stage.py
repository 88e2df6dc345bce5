"""The control plane on a machine without a kernel, for one test."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from epaird.config.settings import PairSettings
from epaird.control.interfaces.ifnet import Pair
from epaird.control.interfaces.inplace import InPlace
from epaird.control.interfaces.kind import Environment
from epaird.control.interfaces.pairs import Pairs
from epaird.control.readings import InterfaceReading
from epaird.control.tasks import together
from epaird.control.workers.worker import Attachment, Worker
from epaird.ipc import counters, ledger
from epaird.ipc.ledger import Table
from epaird.ipc.slots import Slots
from epaird.names import mac
from epaird.names.macpool import MacPool
from tests.control.fake import FakeHost
from tests.control.fakeowner import Owner

W = TypeVar("W", bound=Worker)
DeviceGone = Callable[[str, str], None]
Died = Callable[[Worker], Awaitable[None]]


class CountedSlots(Slots):
    """Slots that record which of them are taken."""

    def __init__(self, table: Table) -> None:
        super().__init__(table)
        self.taken: set[int] = set()

    def take(self) -> int:
        slot = super().take()
        assert slot not in self.taken
        self.taken.add(slot)
        return slot

    def release(self, slot: int) -> None:
        self.taken.remove(slot)
        super().release(slot)


class IdleWorker(Worker):
    """A worker without a process, which succeeds in every request and records it in ``orders``."""

    def __init__(self, number: int, table: Table, slot: int, *, device_gone: DeviceGone, died: Died) -> None:
        super().__init__(
            number, table, slot, queue_limit=2100, poll_spin_us=0, device_gone=device_gone, died=died
        )
        self.requests: list[tuple[object, ...]] = []
        self.detaching = asyncio.Event()
        """While it is cleared, a cable that is detached has frames in flight."""
        self.detaching.set()
        self.failure: Exception | None = None
        """The error that attach() and detach() raise."""

    async def start(self, attempts: int = 1) -> None:  # noqa: ARG002
        raise AssertionError("an idle worker has no process")

    async def stop(self) -> None:
        assert not self.attachments, "cables are still attached"

    async def attach(self, attachment: Attachment) -> None:
        self.requests.append(("attach", attachment.cable))
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        assert attachment.cable not in self.attachments
        self.attachments[attachment.cable] = attachment

    async def resize(self, cable: str, mtus: tuple[int, ...]) -> None:
        self.requests.append(("resize", cable, mtus))

    async def detach(self, cable: str, patience: float, *, keep: bool = False) -> None:  # noqa: ARG002
        if self.attachments.pop(cable, None) is not None:
            self.requests.append(("detach", cable, patience))
            await self.detaching.wait()
            if self.failure is not None:
                raise self.failure

    async def drop(self, cable: str, patience: float) -> None:
        """Do nothing: an idle worker keeps no descriptors."""


class Stage(Generic[W]):
    """Pairs, their workers, and the machine."""

    def __init__(self, workers: int, make: Callable[..., W], **settings: int) -> None:
        self.host = FakeHost()
        self.table = Table.create(256)
        self.slots = CountedSlots(self.table)
        self.lost: list[int] = []
        """Numbers of workers that have died."""
        self.workers: Sequence[W] = [
            make(
                number,
                self.table,
                self.slots.take(),
                device_gone=self.device_gone,
                died=self._died,
                **settings,
            )
            for number in range(workers)
        ]
        environment = Environment.of(self.host, self.table, self.slots, self.workers)
        self.tracker = environment.tracker
        self.in_place = InPlace(self.host, environment.convergence, environment.tracker)
        self.pairs = Pairs(environment, MacPool(mac.host_id()))
        self.host.watch(self.tracker.link_event)
        self.host.steps.clear()

    async def make(self, name: str = "epair0", /, **settings: object) -> Pair:
        """Create a pair with these settings."""
        return await self.pairs.create(name, PairSettings.model_validate(settings))

    def owner(self, device: str) -> Owner:
        """Return the owner of a device with one queue."""
        return self.host.links[device].owner

    def words(self, device: str) -> ledger.Words:
        """Return the slot of the ledger of a device with one queue."""
        ((slot,),) = (half.slots for pair in self.pairs for half in pair.halves if half.device == device)
        return self.table.slot(slot)

    def reading(self, device: str) -> InterfaceReading:
        """Return the reading of a device."""
        (reading,) = (each for each in self.pairs.readings() if each.device == device)
        return reading

    def left(self) -> dict[str, object]:
        """Return the devices, slots (except those of workers), attachments and pairs that exist."""
        found = {
            "devices": sorted(self.host.links),
            "slots": self.slots.taken - set(range(len(self.workers))),
            "attachments": [cable for worker in self.workers for cable in worker.attachments],
            "pairs": [pair.name for pair in self.pairs],
        }
        return {what: names for what, names in found.items() if names}

    def device_gone(self, _cable: str, device: str) -> None:
        """Handle a worker's report that a device no longer exists."""
        self.tracker.device_gone(device)

    async def _died(self, worker: Worker) -> None:
        self.lost.append(worker.number)
        await self.pairs.settle(worker)


@asynccontextmanager
async def idle_stage(workers: int = 1) -> AsyncIterator[Stage[IdleWorker]]:
    """A stage whose workers have no processes and move no frames."""
    stage = Stage(workers, IdleWorker)
    try:
        yield stage
    finally:
        await _clear(stage)


@asynccontextmanager
async def real_stage(workers: int = 1, *, queue_limit: int = 2100) -> AsyncIterator[Stage[Worker]]:
    """A stage whose workers are real processes."""
    stage = Stage(workers, Worker, queue_limit=queue_limit, poll_spin_us=0)
    try:
        await together(*(worker.start() for worker in stage.workers))
        yield stage
    finally:
        await _clear(stage)


async def _clear(stage: Stage[W]) -> None:
    try:
        await stage.pairs.destroy_all()
        for worker in stage.workers:
            await worker.stop()
    finally:
        stage.host.close()
        os.close(stage.table.fd)
    assert not stage.left()


def balance(stage: Stage[W], sender: str, receiver: str) -> dict[str, int]:
    """Return where the frames of one direction are, by the ledger; assert that none is missing."""
    out, into = stage.words(sender), stage.words(receiver)
    reasons = range(len(counters.REASONS))
    read = stage.host.links[sender].measured().tx_packets
    oerrors = sum(out[counters.OERRORS + reason] for reason in reasons)
    ierrors = sum(into[counters.IERRORS + reason] for reason in reasons)
    found = {
        "read": read,
        "sent": out[counters.OPACKETS],
        "arrived": into[counters.IPACKETS],
        "in flight": into[counters.IN_FLIGHT],
        "lost": into[counters.IERRORS + counters.WORKER_LOST],
        "write errors": into[counters.IERRORS + counters.WRITE_ERROR],
    }
    assert read == out[counters.OPACKETS] + oerrors, found
    assert out[counters.OPACKETS] == into[counters.IPACKETS] + into[counters.IN_FLIGHT] + ierrors, found
    assert into[counters.IPACKETS] == stage.host.links[receiver].measured().rx_packets, found
    return found
