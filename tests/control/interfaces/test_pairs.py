"""Pairs made, watched and taken down, on a machine whose every step can fail."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from dataclasses import replace

import pytest

from epaird.control.interfaces.pairs import PATIENCE_S
from epaird.control.workers.worker import WorkerRefused
from epaird.ipc import counters
from epaird.kernel.errors import KernelError
from epaird.kernel.link import Route
from epaird.kernel.watch import Kind, LinkEvent
from tests.control.stage import IdleWorker, Stage, idle_stage
from tests.loop import on_loop, turns
from tests.waiting import eventually

FULL = {
    "queues": 2,
    "a": {"netns": "red", "name": "eth0", "mtu": 9000, "sndbuf": 65536, "addresses": ["10.0.0.1/24"]},
    "b": {"mac": "02:00:00:00:00:01", "routes": [{"to": "10.1.0.0/16", "via": "10.0.0.1"}]},
}
"""Settings with which everything is done that can be done."""


# Making them.


@on_loop
async def test_a_pair_is_made_forwarded_placed_and_configured() -> None:
    async with idle_stage() as stage:
        stage.host.add_namespace("red")
        pair = await stage.make(
            a={
                "netns": "red",
                "name": "eth0",
                "mtu": 9000,
                "txqueuelen": 50,
                "addresses": ["10.0.0.1/24", "fd00::1/64"],
                "routes": [{"to": "default", "via": "10.0.0.2"}],
            },
            b={"mac": "02:00:00:00:00:01", "up": False, "sndbuf": 70000},
        )
        a, b = (stage.host.links[device] for device in ("epair0a", "epair0b"))
        assert (a.place.name, a.place.netns, b.place.name, b.place.netns) == ("eth0", "red", "epair0b", "")
        assert a.settings is not None
        assert b.settings is not None
        assert (a.settings.mtu, a.settings.txqueuelen, a.settings.up) == (9000, 50, True)
        assert a.settings.addresses == ("10.0.0.1/24", "fd00::1/64")
        assert a.settings.routes == (Route("default", "10.0.0.2"),)
        assert (b.settings.mac, b.settings.up) == ("02:00:00:00:00:01", False)
        assert (a.sndbuf, b.sndbuf) == (None, 70000)
        (attachment,) = stage.workers[0].attachments.values()
        assert attachment.cable == "epair0"
        assert tuple(port.name for port in attachment.spec.ports) == ("epair0a", "epair0b")
        assert attachment.fds == (a.tap.fds[0], b.tap.fds[0])
        assert attachment.spec.mtus == (9000, 1500)
        assert list(stage.pairs) == [pair]


@on_loop
async def test_whichever_step_fails_nothing_is_left() -> None:
    async with idle_stage(2) as stage:
        stage.host.add_namespace("red")
        failing = set()
        for step in itertools.count():
            stage.host.steps.clear()
            stage.host.failing_step = step
            try:
                pair = await stage.make(**FULL)
            except KernelError:
                failing.add(stage.host.steps[step])
            else:
                steps = tuple(stage.host.steps)
                stage.host.failing_step = None
                await stage.pairs.destroy(pair)
                if step >= len(steps):
                    break
                assert steps[step] in ("set_carrier", "find"), "which are said"
            assert not stage.left()
        assert {"open_tap", "set_sndbuf", "place", "configure"} <= failing
        assert not stage.left()


@on_loop
async def test_whenever_it_is_cancelled_nothing_is_left() -> None:
    async with idle_stage(2) as stage:
        stage.host.add_namespace("red")
        for operation in ("open_tap", "place", "configure"):
            held = stage.host.hold(operation)
            making = asyncio.create_task(stage.make(**FULL))
            await eventually(held.reached.is_set)
            making.cancel()
            await turns()
            assert not making.done(), "what the kernel's thread is making would be nobody's"
            held.released.set()
            with pytest.raises(asyncio.CancelledError):
                await making
            assert not stage.left()


@on_loop
async def test_a_worker_that_cannot_attach_leaves_nothing() -> None:
    async with idle_stage(2) as stage:
        stage.workers[0].failure = WorkerRefused("too many open files")
        with pytest.raises(WorkerRefused):
            await stage.make(queues=2)
        assert not stage.left()


@on_loop
async def test_a_name_that_is_taken_leaves_the_other_alone() -> None:
    async with idle_stage() as stage:
        await stage.make()
        with pytest.raises(KernelError, match="epair0a: a device of this name exists already"):
            await stage.make()
        assert sorted(stage.host.links) == ["epair0a", "epair0b"]
        assert list(stage.workers[0].attachments) == ["epair0"]


@on_loop
async def test_a_ledger_that_is_full_leaves_nothing() -> None:
    async with idle_stage() as stage:
        free = stage.table.slots - len(stage.slots.taken)
        kept = [stage.slots.take() for _ in range(free - 3)]
        with pytest.raises(IndexError):
            await stage.make(queues=2)
        for slot in kept:
            stage.slots.release(slot)
        assert not stage.left()


@on_loop
async def test_a_pair_belongs_to_the_worker_that_a_halfs_index_says_and_queues_spread() -> None:
    async with idle_stage(3) as stage:
        for number in range(6):
            pair = await stage.make(f"epair{number}")
            (worker,) = pair.workers
            assert worker.number in {half.tap.index % 3 for half in pair.halves}
        assert sum(len(worker.attachments) > 0 for worker in stage.workers) == 3
        pair = await stage.make("epair9", queues=4)
        first = pair.workers[0].number
        assert first in {half.tap.index % 3 for half in pair.halves}
        assert [worker.number for worker in pair.workers] == [(first + queue) % 3 for queue in range(4)]
        for queue, worker in enumerate(pair.workers):
            attachment = worker.attachments[f"epair9.{queue}"]
            assert attachment.fds == tuple(half.tap.fds[queue] for half in pair.halves)
            assert attachment.spec.slots == tuple(half.slots[queue] for half in pair.halves)


@on_loop
async def test_two_workers_share_the_pairs_although_indices_come_in_twos() -> None:
    async with idle_stage(2) as stage:
        for number in range(6):
            await stage.make(f"epair{number}")
        assert [len(worker.attachments) for worker in stage.workers] == [3, 3]


@on_loop
async def test_an_address_that_was_derived_is_never_derived_again() -> None:
    async with idle_stage() as stage:
        seen: set[str] = set()
        for _ in range(3):
            pair = await stage.make()
            macs = [half.mac for half in pair.halves]
            assert macs[0][:-2] == macs[1][:-2]
            assert [mac[-2:] for mac in macs] == ["0a", "0b"]
            assert not seen & set(macs)
            seen.update(macs)
            await stage.pairs.destroy(pair)


@on_loop
async def test_what_the_kernel_lacks_is_said_unless_nobody_asked_for_it(
    said: Callable[[], list[str]],
) -> None:
    async with idle_stage() as stage:
        stage.host.missing = ("USO", "ECN")
        await stage.make()
        assert said() == [
            f"epair0{side}: this kernel has no USO and no ECN; going on without" for side in "ab"
        ]
        await stage.make("epair1", offload=False)
        assert said() == []


# Taking them down.


@on_loop
async def test_devices_go_after_the_last_frame_has_arrived() -> None:
    async with idle_stage() as stage:
        pair = await stage.make()
        stage.workers[0].letting_go.clear()
        going = asyncio.create_task(stage.pairs.destroy(pair))
        await eventually(lambda: ("detach", "epair0", PATIENCE_S) in stage.workers[0].orders)
        await turns(10)
        assert "close_taps" not in stage.host.steps
        assert len(stage.slots.taken) == 3
        stage.workers[0].letting_go.set()
        await going
        assert not stage.left()


@on_loop
async def test_whoever_destroys_what_is_being_destroyed_waits_for_it() -> None:
    async with idle_stage() as stage:
        pair = await stage.make()
        stage.workers[0].letting_go.clear()
        going = [asyncio.create_task(stage.pairs.destroy(pair)) for _ in range(2)]
        going.append(asyncio.create_task(stage.pairs.destroy_all()))
        await turns(10)
        assert not any(task.done() for task in going)
        stage.workers[0].letting_go.set()
        await asyncio.gather(*going)
        await stage.pairs.destroy(pair)
        assert not stage.left()
        assert stage.host.steps.count("close_taps") == 1
        assert [order[0] for order in stage.workers[0].orders] == ["attach", "detach"]


@on_loop
async def test_a_pair_whose_devices_cannot_be_closed_is_forgotten_all_the_same() -> None:
    async with idle_stage() as stage:
        for number in range(3):
            await stage.make(f"epair{number}")
        stage.host.fail("close_taps")
        with pytest.raises(KernelError):
            await stage.pairs.destroy_all()
        assert not stage.left()


@on_loop
async def test_a_worker_that_fails_to_let_go_does_not_keep_the_devices() -> None:
    async with idle_stage() as stage:
        pair = await stage.make()
        stage.workers[0].failure = WorkerRefused("epair0 is not attached")
        with pytest.raises(WorkerRefused):
            await stage.pairs.destroy(pair)
        assert not stage.left()


# Measuring them.


@on_loop
async def test_readings_are_the_ledgers_and_the_kernels() -> None:
    async with idle_stage() as stage:
        stage.host.add_namespace("red")
        pair = await stage.make(queues=2, a={"netns": "red", "name": "eth0"})
        for number, slot in enumerate(pair.halves[0].slots, 1):
            words = stage.table.slot(slot)
            words[counters.OPACKETS], words[counters.IBYTES] = 10 * number, number
            words[counters.IN_FLIGHT], words[counters.LISTED] = 4, 1
            words[counters.OERRORS + counters.RUNT] = 1
            words[counters.IERRORS + counters.WORKER_LOST] = 3
        link = stage.host.links["epair0a"]
        link.statistics = replace(link.statistics, tx_dropped=77)
        reading = stage.reading("epair0a")
        assert (reading.stats.opackets, reading.stats.ibytes, reading.stats.oqdrops) == (30, 3, 77)
        assert reading.refs == 1 + 8 + 2
        assert reading.stats.oerrors["runt"] == sum(reading.stats.oerrors.values()) == 2
        assert reading.stats.ierrors["worker_lost"] == sum(reading.stats.ierrors.values()) == 6
        assert (reading.name, reading.netns, reading.pair, reading.half) == ("eth0", "red", "epair0", "a")
        assert (reading.up, reading.carrier, reading.mtu) == (True, True, 1500)
        assert set(reading.worker.split(",")) <= {"0"}


@on_loop
async def test_a_half_that_has_vanished_is_left_out_of_the_readings() -> None:
    async with idle_stage() as stage:
        await stage.make()
        stage.host.delete("epair0a")
        assert [reading.device for reading in stage.pairs.readings()] == ["epair0b"]


@on_loop
async def test_one_look_at_each_namespace_measures_all_pairs() -> None:
    async with idle_stage() as stage:
        stage.host.add_namespace("red")
        for number in range(5):
            await stage.make(f"epair{number}", a={"netns": "red"})
        for look in (
            lambda: stage.pairs.readings(),
            lambda: stage.host.tell(LinkEvent(Kind.OVERRUN)),
        ):
            stage.host.steps.clear()
            look()
            assert stage.host.steps.count("statistics") == 2
        stage.host.steps.clear()
        await stage.pairs.worker_lost(stage.workers[0])
        assert stage.host.steps.count("statistics") == 2


# A worker's death.


def _died(stage: Stage[IdleWorker]) -> Coroutine[None, None, None]:
    return stage.pairs.worker_lost(stage.workers[0])


@on_loop
async def test_frames_in_the_hands_of_a_dead_worker_are_accounted_for() -> None:
    async with idle_stage() as stage:
        await stage.make()
        a, b = stage.owner("epair0a"), stage.owner("epair0b")
        a.sends(5)
        for _ in range(3):  # read, and two of them written; of all that, one had been counted
            a.take()
        b.deliver(2)
        sender, receiver = stage.words("epair0a"), stage.words("epair0b")
        sender[counters.OPACKETS] = receiver[counters.IPACKETS] = 1
        receiver[counters.IN_FLIGHT] = 2
        sender[counters.LISTED] = sender[counters.OACTIVE] = 1
        await _died(stage)
        assert sender[counters.OPACKETS] == 3
        assert receiver[counters.IPACKETS] == 2
        assert stage.reading("epair0b").stats.ierrors["worker_lost"] == 1
        assert (stage.reading("epair0a").refs, stage.reading("epair0b").refs) == (1, 1)
        await _died(stage)
        assert stage.reading("epair0b").stats.ierrors["worker_lost"] == 1, "settled twice"


@on_loop
async def test_with_several_queues_what_waited_is_lost_and_the_other_workers_go_on() -> None:
    async with idle_stage(2) as stage:
        pair = await stage.make(queues=2)
        for queue in (0, 1):
            sender, receiver = (stage.table.slot(half.slots[queue]) for half in pair.halves)
            sender[counters.OPACKETS] = 10
            receiver[counters.IPACKETS] = 7
            receiver[counters.IN_FLIGHT] = 3
        dead = pair.workers.index(stage.workers[0])
        await _died(stage)
        left = [stage.table.slot(pair.halves[1].slots[queue]) for queue in (dead, 1 - dead)]
        assert [words[counters.IERRORS + counters.WORKER_LOST] for words in left] == [3, 0]
        assert [words[counters.IN_FLIGHT] for words in left] == [0, 3]


@on_loop
async def test_a_death_while_the_kernel_does_not_answer_settles_what_was_counted(
    said: Callable[[], list[str]],
) -> None:
    async with idle_stage() as stage:
        await stage.make()
        sender, receiver = stage.words("epair0a"), stage.words("epair0b")
        sender[counters.OPACKETS], receiver[counters.IPACKETS], receiver[counters.IN_FLIGHT] = 9, 4, 5
        stage.host.fail("statistics")
        await _died(stage)
        assert said() == ["worker 0: what it lost is known in part only: statistics: Input/output error"]
        assert (receiver[counters.IERRORS + counters.WORKER_LOST], receiver[counters.IN_FLIGHT]) == (5, 0)
