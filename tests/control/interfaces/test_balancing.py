"""Accounts of cables with several queues, whose workers are real processes that are killed or stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Sequence

import pytest

from epaird.control.interfaces import balancing
from epaird.control.interfaces.cables import Cable
from epaird.control.interfaces.ifnet import Half, Pair
from epaird.control.interfaces.measuring import measured
from epaird.control.workers import processes
from epaird.control.workers.worker import Worker
from epaird.ipc import counters
from tests.control.fakeowner import numbered
from tests.control.stage import Stage, real_stage
from tests.control.workers.staged import pid, replaced
from tests.loop import on_loop
from tests.waiting import eventually

OLDER = """
from epaird.dataplane.__main__ import main
from epaird.ipc import encoding
for each in ("Pause", "Continue", "Amend"):
    del encoding._TYPES[each]
main()
"""
ERRORS = range(len(counters.REASONS))


class Queues:
    """A pair with several queues, through which frames pass from ``epair0a`` to ``epair0b``."""

    def __init__(self, stage: Stage[Worker], pair: Pair) -> None:
        self.stage = stage
        self.pair = pair
        self.senders, self.receivers = (stage.host.links[half.device].owners for half in pair.halves)

    @classmethod
    async def make(cls, stage: Stage[Worker], queues: int = 2) -> Queues:
        return cls(stage, await stage.make(queues=queues))

    @property
    def cable(self) -> Cable[Half]:
        cable = self.pair.halves[0].cable
        assert cable is not None
        return cable

    def words(self, half: int, word: int) -> list[int]:
        """Return a word of each queue of a half."""
        return [self.stage.table.slot(slot)[word] for slot in self.pair.halves[half].slots]

    def lost(self) -> int:
        return sum(self.words(1, counters.IERRORS + counters.WORKER_LOST))

    async def fill(self) -> Sequence[int]:
        """Send through each queue without receiving until frames wait in each; return how many."""
        for queue, owner in enumerate(self.senders):
            while self.words(1, counters.IN_FLIGHT)[queue] < 2:
                with contextlib.suppress(BlockingIOError):
                    owner.sends(3)
                await asyncio.sleep(0.001)
        await eventually(lambda: self.taken() == sum(owner.sent for owner in self.senders))
        await eventually(lambda: sum(self.words(0, counters.OPACKETS)) == self.taken())
        return self.words(1, counters.IN_FLIGHT)

    def taken(self) -> int:
        return sum(owner.taken for owner in self.senders)

    async def settled(self) -> None:
        """Wait until the account is settled, and check the books."""
        await eventually(lambda: not self.cable.unsettled)
        sent = sum(self.words(0, counters.OPACKETS))
        errors = sum(sum(self.words(1, counters.IERRORS + reason)) for reason in ERRORS)
        assert self.taken() == sent
        arrived, waiting = (sum(self.words(1, word)) for word in (counters.IPACKETS, counters.IN_FLIGHT))
        assert arrived == sum(owner.delivered for owner in self.receivers)
        assert sent == arrived + waiting + errors

    def kill(self, *workers: int) -> list[int]:
        """Kill workers; return the queues that they forwarded."""
        for number in workers:
            os.kill(pid(self.stage.workers[number]), signal.SIGKILL)
        return [queue for queue, worker in enumerate(self.pair.workers) if worker.number in workers]


@pytest.mark.parametrize("queues", [2, 4])
@pytest.mark.parametrize("killed", [(0,), (0, 1)], ids=["one", "both at once"])
@on_loop
async def test_what_dead_workers_had_in_hand_is_lost_and_what_waits_elsewhere_is_not(
    queues: int, killed: tuple[int, ...]
) -> None:
    async with real_stage(2) as stage:
        traffic = await Queues.make(stage, queues)
        waiting = await traffic.fill()
        dead = traffic.kill(*killed)
        for number in killed:
            await replaced(stage.workers[number])
        await traffic.settled()
        assert traffic.lost() == sum(waiting[queue] for queue in dead)
        assert [traffic.words(1, counters.IN_FLIGHT)[queue] for queue in dead] == [0] * len(dead)


@on_loop
async def test_frames_that_were_read_and_not_counted_are_found() -> None:
    """As of a process that was killed between a read and a store to the ledger."""
    async with real_stage(2) as stage:
        traffic = await Queues.make(stage)
        (queue,) = (number for number, worker in enumerate(traffic.pair.workers) if worker.number == 0)
        traffic.kill(0)
        await eventually(lambda: not stage.workers[0].forwards)
        traffic.senders[queue].sends(5)
        for _ in range(5):
            traffic.senders[queue].take()
        traffic.receivers[queue].deliver(3)
        await replaced(stage.workers[0])
        await traffic.settled()
        assert (traffic.lost(), sum(traffic.words(1, counters.IPACKETS))) == (2, 3)


@on_loop
async def test_a_queue_that_does_not_answer_is_settled_when_it_does() -> None:
    async with real_stage(2) as stage:
        traffic = await Queues.make(stage)
        waiting = await traffic.fill()
        os.kill(pid(stage.workers[1]), signal.SIGSTOP)
        (dead,) = traffic.kill(0)
        await replaced(stage.workers[0])
        before = len(traffic.receivers[dead].receives())
        traffic.senders[dead].sends()
        await eventually(lambda: len(traffic.receivers[dead].receives()) > before)
        assert traffic.cable.unsettled
        assert not traffic.lost()
        os.kill(pid(stage.workers[1]), signal.SIGCONT)
        await traffic.settled()
        assert traffic.lost() == waiting[dead]


@on_loop
async def test_a_queue_that_does_not_answer_is_settled_with_its_workers_replacement() -> None:
    async with real_stage(2) as stage:
        traffic = await Queues.make(stage)
        waiting = await traffic.fill()
        os.kill(pid(stage.workers[1]), signal.SIGSTOP)
        traffic.kill(0)
        await replaced(stage.workers[0])
        traffic.kill(1)
        await replaced(stage.workers[1])
        await traffic.settled()
        assert traffic.lost() == sum(waiting)


@on_loop
async def test_a_worker_of_an_older_version_is_settled_with_its_renewal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(processes, "PROGRAM", ("-I", "-c", OLDER))
        async with real_stage(2) as stage:
            traffic = await Queues.make(stage)
            waiting = await traffic.fill()
            patch.undo()
            (dead,) = traffic.kill(0)
            await replaced(stage.workers[0])
            assert traffic.cable.unsettled
            (queue,) = {0, 1} - {dead}
            traffic.receivers[queue].receives()
            slot = stage.slots.take()
            await stage.workers[1].renew(slot)
            await traffic.settled()
            assert traffic.lost() == waiting[dead]
            stage.slots.release(slot)


@on_loop
async def test_a_worker_that_dies_while_it_is_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with real_stage(2) as stage:
        traffic = await Queues.make(stage)
        waiting = await traffic.fill()
        killed: list[object] = []

        def kill_and_measure(*arguments: object) -> object:
            if not killed:
                killed.append(traffic.kill(1))
            return measured(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(balancing, "measured", kill_and_measure)
        traffic.kill(0)
        await replaced(stage.workers[0])
        await replaced(stage.workers[1])
        await traffic.settled()
        assert traffic.lost() == sum(waiting)


@on_loop
async def test_a_pause_that_ended_during_the_comparison_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    async with real_stage(2) as stage:
        traffic = await Queues.make(stage)
        waiting = await traffic.fill()
        attempts: list[object] = []

        def measure_slowly(*arguments: object) -> object:
            attempts.append(arguments)
            if len(attempts) == 1:
                time.sleep(2 * balancing.PAUSE_S)
            return measured(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(balancing, "measured", measure_slowly)
        (dead,) = traffic.kill(0)
        await replaced(stage.workers[0])
        await traffic.settled()
        assert len(attempts) >= 2
        assert traffic.lost() == waiting[dead]


@on_loop
async def test_what_a_predecessor_left_is_settled() -> None:
    async with real_stage(2) as stage:
        traffic = await Queues.make(stage)
        traffic.senders[0].sends(3)
        await eventually(lambda: len(traffic.receivers[0].receives()) == 3)
        slot = stage.table.slot(traffic.pair.halves[0].slots[0])
        await eventually(lambda: slot[counters.OPACKETS] == 3)
        slot[counters.OPACKETS] = 1  # a process has died that had not counted two
        stage.table.slot(traffic.pair.halves[1].slots[0])[counters.IPACKETS] = 1
        stage.pairs.balance()
        assert traffic.cable.unsettled
        await traffic.settled()
        assert not traffic.lost()


@on_loop
async def test_what_a_worker_with_all_queues_had_in_hand_is_known_before_it_is_replaced() -> None:
    async with real_stage() as stage:
        traffic = await Queues.make(stage)
        waiting = await traffic.fill()
        traffic.kill(0)
        await eventually(lambda: not stage.workers[0].forwards)
        await eventually(lambda: traffic.lost() == sum(waiting))
        assert not traffic.cable.unsettled
        await replaced(stage.workers[0])
        await traffic.settled()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("end", ["death", "renewal"])
@on_loop
async def test_what_the_line_of_all_queues_holds_is_not_lost(
    workers: int, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with real_stage(workers) as stage:
        traffic = Queues(stage, await stage.make(queues=2, impair={"delay": "300ms"}))
        (worker,) = set(traffic.cable.workers)
        for _ in range(2):
            for number, sender in enumerate(traffic.senders, 1):
                sender.sends(10 * number)
        await eventually(lambda: traffic.words(0, counters.OPACKETS) == [20, 40])
        if end == "death":
            os.kill(pid(worker), signal.SIGKILL)
            await replaced(worker)
        else:
            slot, before = stage.slots.take(), worker.slot
            await worker.renew(slot)
            stage.slots.release(before)
        assert not traffic.cable.unsettled
        await eventually(lambda: [len(each.receives()) for each in traffic.receivers] == [20, 40])
        for queue, receiver in enumerate(traffic.receivers):
            assert receiver.received == [numbered(number) for number in range(20 * (queue + 1))]
        await eventually(lambda: traffic.words(1, counters.IPACKETS) == [60, 0])
        assert traffic.lost() == 0
        await traffic.settled()
        assert "waits for another process" not in caplog.text
        if end == "renewal":
            stage.slots.release(worker.slot)
            stage.slots.taken.add(before)
