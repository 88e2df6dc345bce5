"""Readings of interfaces, and the account of a worker that has died."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace

from epaird.control.interfaces.measuring import measured
from epaird.ipc import counters
from epaird.kernel.watch import LinkEvent, LinkEventKind
from tests.control.stage import IdleWorker, Stage, idle_stage
from tests.loop import on_loop


@on_loop
async def test_readings_come_from_the_ledger_and_the_kernel() -> None:
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
async def test_a_half_that_is_being_moved_is_read_where_it_is_now() -> None:
    async with idle_stage() as stage:
        stage.host.add_namespace("red")
        await stage.make(a={"name": "eth0"})
        link = stage.host.links["epair0a"]
        link.statistics = replace(link.statistics, tx_packets=77)
        stage.host.move("epair0a", "red")  # no event of it was handled yet
        half = stage.pairs.half("epair0a")
        assert half is not None
        assert half.place != link.place
        assert measured(stage.host, [half])[half].tx_packets == 77


@on_loop
async def test_counters_of_a_namespace_that_has_the_id_now_are_another_ones() -> None:
    """The kernel gives the id of a namespace that has ended to the next one, which has the same indices."""
    async with idle_stage() as stage:
        stage.host.add_namespace("red")
        first = await stage.make("epair0", a={"netns": "red"})
        second = await stage.make("epair1", a={"netns": "red"})
        foreign = stage.host.links["epair1a"]
        stage.host.end_namespace("red")
        stage.host.add_namespace("red")
        # Another device in another namespace, at the place that the first half had.
        foreign.exists, old = True, stage.host.links["epair0a"].place
        foreign.place = replace(old, identity=stage.host.namespaces["red"])
        half = first.halves[0]
        assert measured(stage.host, [half]) == {}
        second.halves[0].place = foreign.place
        assert measured(stage.host, [half, second.halves[0]]) == {second.halves[0]: foreign.measured()}


@on_loop
async def test_all_pairs_are_measured_with_one_request_for_each_namespace() -> None:
    async with idle_stage() as stage:
        stage.host.add_namespace("red")
        for number in range(5):
            await stage.make(f"epair{number}", a={"netns": "red"})
        for measure in (
            lambda: stage.pairs.readings(),
            lambda: stage.host.report(LinkEvent(LinkEventKind.OVERRUN)),
        ):
            stage.host.steps.clear()
            measure()
            assert stage.host.steps.count("statistics") == 2
        stage.host.steps.clear()
        await stage.pairs.settle(stage.workers[0])
        assert stage.host.steps.count("statistics") == 2


def _died(stage: Stage[IdleWorker]) -> Coroutine[None, None, None]:
    return stage.pairs.settle(stage.workers[0])


@on_loop
async def test_frames_in_the_hands_of_a_dead_worker_are_accounted_for() -> None:
    async with idle_stage() as stage:
        await stage.make()
        a, b = stage.owner("epair0a"), stage.owner("epair0b")
        a.sends(5)
        for _ in range(3):  # three are read and two of them written; one had been counted
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
async def test_with_several_queues_only_the_state_of_the_dead_process_is_cleared_at_once() -> None:
    async with idle_stage(2) as stage:
        pair = await stage.make(queues=2)
        cable = pair.halves[0].cable
        assert cable is not None
        for queue in (0, 1):
            sender, receiver = (stage.table.slot(half.slots[queue]) for half in pair.halves)
            sender[counters.OPACKETS] = 10
            receiver[counters.IPACKETS] = 7
            receiver[counters.IN_FLIGHT] = 3
        dead = pair.workers.index(stage.workers[0])
        await _died(stage)
        left = [stage.table.slot(pair.halves[1].slots[queue]) for queue in (dead, 1 - dead)]
        assert [words[counters.IERRORS + counters.WORKER_LOST] for words in left] == [0, 0]
        assert [words[counters.IN_FLIGHT] for words in left] == [0, 3]
        assert cable.unsettled


@on_loop
async def test_an_account_that_is_not_settled_when_its_cable_is_detached_is_settled_then(
    warnings: Callable[[], list[str]],
) -> None:
    async with idle_stage(2) as stage:
        pair = await stage.make(queues=2)
        for queue in (0, 1):
            sender, receiver = (stage.table.slot(half.slots[queue]) for half in pair.halves)
            sender[counters.OPACKETS] = 10
            receiver[counters.IPACKETS] = 7
        link, peer = (stage.host.links[half.device] for half in pair.halves)
        link.statistics = replace(link.statistics, tx_packets=25)
        peer.statistics = replace(peer.statistics, rx_packets=18)
        await _died(stage)
        await stage.pairs.rewire(pair)
        a, b = stage.reading("epair0a").stats, stage.reading("epair0b").stats
        assert (a.opackets, b.ipackets, b.ierrors["worker_lost"]) == (25, 18, 7)
        await _died(stage)
        stage.host.fail("statistics")
        await stage.pairs.rewire(pair)
        assert len(warnings()) == 1
        await stage.pairs.rewire(pair)
        assert stage.reading("epair0b").stats == b


@on_loop
async def test_without_the_kernels_statistics_the_counted_frames_are_settled(
    warnings: Callable[[], list[str]],
) -> None:
    async with idle_stage() as stage:
        await stage.make()
        sender, receiver = stage.words("epair0a"), stage.words("epair0b")
        sender[counters.OPACKETS], receiver[counters.IPACKETS], receiver[counters.IN_FLIGHT] = 9, 4, 5
        stage.host.fail("statistics")
        await _died(stage)
        assert warnings() == ["worker 0: its losses are known in part only: statistics: Input/output error"]
        assert (receiver[counters.IERRORS + counters.WORKER_LOST], receiver[counters.IN_FLIGHT]) == (5, 0)
