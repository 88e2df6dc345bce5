"""Orphans: adopted, or ended once their cables were handed over."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from epaird.control.handover import orphans as orphans_module
from epaird.control.handover.ledgers import table_identity
from epaird.control.handover.orphans import Orphans
from epaird.control.handover.predecessor import Orphan
from epaird.control.interfaces.cables import Cable
from epaird.control.interfaces.ifnet import Loopback
from epaird.control.workers.link import Link
from epaird.control.workers.readers import Readers
from epaird.ipc import counters
from epaird.ipc.messages import PROTOCOL, CableKind, CableSpec, Describe, Detach, End, Keep, Message, Tune
from epaird.kernel.namespace import Identity
from tests.control.handover.orphan import FakeOrphan, StartedWorker, started_worker
from tests.control.interfaces.scene import Scene, make_scene
from tests.loop import on_loop

PATH = Path("/nonexistent/worker-1.sock")


def recorded_cable(scene: Scene, worker: StartedWorker) -> Cable[Loopback]:
    """Return the cable of lo0, recorded as one that a worker of the successor is to have."""
    (lo,) = scene.registry.loopbacks
    scene.worker.attachments.clear()
    lo.assign((worker,))
    cable = scene.registry.loopbacks.cable_of(lo)
    cable.adopt({})
    return cable


def orphan(
    fake: FakeOrphan, connection: socket.socket, ledger: Identity, cables: Sequence[CableSpec]
) -> Orphan:
    """Return an orphan with these cables."""
    connection.setblocking(False)
    pid = fake.process.pid
    cables_by_name = {spec.name: spec for spec in cables}
    return Orphan(PATH, connection, pid, os.pidfd_open(pid), fake.about, ledger, cables_by_name)


def kinds(requests: Sequence[Message]) -> list[type[Message]]:
    """Return the types of requests."""
    return [type(request) for request in requests]


@on_loop
async def test_an_orphan_with_the_same_cable_is_adopted_and_continues() -> None:
    async with make_scene() as scene:
        worker = started_worker(scene)
        cable = recorded_cable(scene, worker)
        spec = cable.wanted(0).spec
        fake = FakeOrphan(0, 0, scene.table.fd)
        with fake.connected() as connection:
            unknown = replace(spec, name="lo9", ports=(replace(spec.ports[0], slot=9),))
            found = orphan(fake, connection, table_identity(scene.table), [spec.resized((1400,)), unknown])
            orphans = Orphans([found], [worker], scene.table, [cable])
            assert orphans.numbers == {0}
            assert worker.pid == fake.process.pid
            await orphans.hand_over(lambda _: {})
            await orphans.end()
            assert worker.requests == [("resize", "lo0", spec.mtus)]
            assert kinds(fake.requests) == [Describe, Tune, Detach]
            assert fake.requests[2] == Detach(3, "lo9", 1.0)
            await worker.leave()


@pytest.mark.parametrize("reason", ["protocol", "ledger", "number"])
def test_another_orphan_hands_its_cables_over_and_is_ended(reason: str) -> None:
    async def hand_over() -> None:
        async with make_scene() as scene:
            worker = started_worker(scene)
            cable = recorded_cable(scene, worker)
            spec = cable.wanted(0).spec
            protocol = 0 if reason == "protocol" else PROTOCOL
            fake = FakeOrphan(7 if reason == "number" else 0, 0, scene.table.fd, protocol)
            words = scene.table.slot(spec.slots[0])
            words[counters.OPACKETS] = 5  # 2 of them are still in its hands, and will be delivered
            words[counters.IPACKETS] = 3
            with fake.connected() as connection:
                ledger = Identity(0, 0) if reason == "ledger" else table_identity(scene.table)
                orphans = Orphans([orphan(fake, connection, ledger, [spec])], [worker], scene.table, [cable])
                await orphans.hand_over(lambda _: {})
                assert worker.requests == [("start",), ("attach", "lo0")]
                await orphans.end()
            assert kinds(fake.requests) == ([Detach, End] if reason == "protocol" else [Describe, Keep, End])
            assert words[counters.IERRORS + counters.WORKER_LOST] == 0

    on_loop(hand_over)()


@on_loop
async def test_an_orphan_that_has_died_since_it_was_asked_leaves_nothing(tmp_path: Path) -> None:
    async with make_scene() as scene:
        worker = started_worker(scene)
        cable = recorded_cable(scene, worker)
        spec = cable.wanted(0).spec
        fake = FakeOrphan(0, 0, scene.table.fd)
        words = scene.table.slot(spec.slots[0])
        words[counters.OPACKETS], words[counters.IPACKETS] = 5, 3
        with fake.connected() as connection:
            path = tmp_path / "worker-1.sock"
            path.touch()
            found = replace(orphan(fake, connection, table_identity(scene.table), [spec]), path=path)
            fake.process.kill()
            fake.process.wait()
            orphans = Orphans([found], [worker], scene.table, [cable])
            assert orphans.numbers == set()
            assert connection.fileno() < 0
            assert not path.exists()
            assert worker.requests == []
            await orphans.hand_over(lambda _: {})
            await orphans.end()
        assert worker.requests == [("start",), ("attach", "lo0")]
        assert words[counters.IERRORS + counters.WORKER_LOST] == 2


@on_loop
async def test_the_frames_of_an_orphan_that_dies_are_accounted_for() -> None:
    async with make_scene() as scene:
        worker = started_worker(scene)
        cable = recorded_cable(scene, worker)
        spec = cable.wanted(0).spec
        fake = FakeOrphan(0, 0, scene.table.fd, protocol=0)
        fake.dies_at = Detach
        words = scene.table.slot(spec.slots[0])
        words[counters.OPACKETS], words[counters.IPACKETS] = 5, 3
        with fake.connected() as connection:
            found = orphan(fake, connection, table_identity(scene.table), [spec])
            orphans = Orphans([found], [worker], scene.table, [cable])
            await orphans.hand_over(lambda _: {})
            await orphans.end()
        assert words[counters.IERRORS + counters.WORKER_LOST] == 2
        assert set(worker.attachments) == {"lo0"}


@on_loop
async def test_a_cable_that_another_orphan_reads_is_given_to_no_worker_before_it_is_detached() -> None:
    """Otherwise the replacement of an adopted worker that dies would be a second reader."""
    async with make_scene() as scene:
        worker = started_worker(scene)
        cable = recorded_cable(scene, worker)
        spec = cable.wanted(0).spec
        first, second = FakeOrphan(0, 0, scene.table.fd), FakeOrphan(0, 1, scene.table.fd)
        with first.connected() as near, second.connected() as far:
            ledger = table_identity(scene.table)
            kept = orphan(first, near, ledger, [replace(spec, kind=CableKind.KEPT)])
            reading = orphan(second, far, ledger, [spec])
            readers = Readers()
            orphans = Orphans([kept, reading], [worker], scene.table, [cable], readers)
            assert (worker.pid, worker.attachments, cable.handed_over) == (first.process.pid, {}, [False])
            (reader,) = readers.of(spec.slots[0])
            assert isinstance(reader, Link)
            assert reader.pid == second.process.pid
            first.process.kill()
            await orphans.hand_over(lambda _: {})
            assert kinds(second.requests) == [Describe, Keep]
            assert readers.of(spec.slots[0]) == ()
            assert cable.handed_over == [True]
            assert set(worker.attachments) == {"lo0"}
            await orphans.end()
            assert kinds(second.requests) == [Describe, Keep, End]
            await worker.leave()


@on_loop
async def test_an_orphan_that_does_not_answer_is_killed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(orphans_module, "ANSWER_S", 0.1)
    monkeypatch.setattr(orphans_module, "DRAIN_TIMEOUT_S", 0.1)
    async with make_scene() as scene:
        worker = started_worker(scene)
        cable = recorded_cable(scene, worker)
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fake = FakeOrphan(7, 0, scene.table.fd)
        with far:  # nobody reads from it
            silent = orphan(fake, near, table_identity(scene.table), [cable.wanted(0).spec])
            orphans = Orphans([silent], [worker], scene.table, [cable])
            await orphans.hand_over(lambda _: {})
            await orphans.end()
        assert f"orphan worker (pid {fake.process.pid}) does not answer; killing it" in caplog.messages
        assert set(worker.attachments) == {"lo0"}
        fake.end()


@pytest.mark.parametrize("known", [1, 2])
@on_loop
async def test_the_queues_of_a_line_are_taken_over_together(known: int) -> None:
    """A process that has one of them has the ring, so another one cannot be given the others."""
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {"queues": 2, "impair": {"delay": "1ms"}})
        worker = started_worker(scene)
        (pair,) = scene.registry.pairs
        for queue in (0, 1):
            del scene.worker.attachments[f"epair0.{queue}"]
        pair.assign((worker, worker))
        cable = scene.registry.pairs.cable_of(pair.halves[0])
        cable.adopt({})
        specs = [cable.wanted(queue).spec for queue in (0, 1)]
        fake = FakeOrphan(0, 0, scene.table.fd)
        with fake.connected() as connection:
            found = orphan(fake, connection, table_identity(scene.table), specs[:known])
            orphans = Orphans([found], [worker], scene.table, [cable])
            await orphans.hand_over(lambda _: {})
            assert cable.handed_over == [True, True]
            if known == 2:
                assert kinds(fake.requests) == [Describe, Tune]
                assert worker.requests == []
            else:
                assert Keep(3, "epair0.0", 1.0) in fake.requests
                assert worker.requests == [("attach", "epair0.0"), ("attach", "epair0.1")]
            await worker.leave()
        worker.attachments.clear()
        for half in pair.halves:
            half.cable = None
