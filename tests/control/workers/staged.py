"""Helpers of the tests of workers."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from epaird.control.workers.worker import Attachment, Worker
from epaird.ipc import counters
from epaird.ipc.messages import CableSpec, PortSpec
from tests.control.stage import Stage
from tests.waiting import eventually


def pid(worker: Worker) -> int:
    assert worker.pid is not None
    return worker.pid


def open_files(process: int) -> list[str]:
    return [str(each.readlink()) for each in Path(f"/proc/{process}/fd").iterdir()]


def idle(stage: Stage[Worker]) -> Worker:
    """Return a worker that has not been started."""
    gone, died = stage.device_gone, stage.pairs.settle
    return Worker(7, stage.table, 7, queue_limit=1, poll_spin_us=0, device_gone=gone, died=died)


def nothing(cable: str) -> Attachment:
    """Return an attachment without descriptors of devices."""
    return Attachment(CableSpec(cable, (PortSpec("a", 1, 1500), PortSpec("b", 2, 1500))), (0, 0))


async def replaced(worker: Worker, times: int = 1) -> None:
    """Wait until a worker that died forwards again."""
    await eventually(lambda: worker.restarts >= times and worker.forwards)


async def crosses(stage: Stage[Worker], pair: str) -> None:
    """Check that a frame crosses a pair."""
    before = len(stage.owner(f"{pair}b").receives())
    stage.owner(f"{pair}a").sends()
    await eventually(lambda: len(stage.owner(f"{pair}b").receives()) > before)


async def fill(stage: Stage[Worker]) -> int:
    """Send from ``epair0a`` without receiving until frames wait; return how many."""
    owner, words = stage.owner("epair0a"), stage.words("epair0a")
    while stage.workers[0].reading().queue_frames < 2:
        with contextlib.suppress(BlockingIOError):
            owner.sends(3)
        await asyncio.sleep(0.001)
    await eventually(lambda: owner.taken == owner.sent == words[counters.OPACKETS])
    return stage.words("epair0b")[counters.IN_FLIGHT]


async def full(stage: Stage[Worker]) -> None:
    """Send from ``epair0a`` without receiving until the queue of the first worker is full."""

    def oactive() -> bool:
        stage.owner("epair0a").sends_all_it_can()
        return stage.workers[0].reading().oactive

    await eventually(oactive)


async def drained(stage: Stage[Worker]) -> None:
    """Have both owners receive until every frame that was sent is accounted for.

    The last frames may be delivered after an owner has received and before nothing is in flight any more, so
    the owners receive once more after that."""

    def done(device: str, peer: str) -> bool:
        owner = stage.owner(device)
        owner.receives()
        read = stage.words(device)[counters.OPACKETS] == owner.taken == owner.sent
        return read and not stage.words(peer)[counters.IN_FLIGHT]

    await eventually(lambda: done("epair0a", "epair0b") & done("epair0b", "epair0a"))
    for device in ("epair0a", "epair0b"):
        stage.owner(device).receives()
