"""Pairs and loopbacks move to other workers, each by its own rules."""

from __future__ import annotations

import os

from epaird.control.movables import movables

from epaird.config.settings import LoopbackSettings, PairSettings
from epaird.control.interfaces.registry import Interfaces
from epaird.control.workers.worker import Worker
from epaird.ipc.ledger import Table
from epaird.names.macpool import MacPool
from tests.control.fake import FakeHost
from tests.control.stage import CountedSlots, IdleWorker
from tests.loop import on_loop


@on_loop
async def test_each_interface_is_detached_by_its_worker_and_attached_by_another() -> None:
    host, table = FakeHost(), Table.create(64)
    slots = CountedSlots(table)

    async def died(_worker: Worker) -> None:
        raise AssertionError("it has no process")

    workers = [
        IdleWorker(number, table, slots.take(), device_gone=lambda _cable, _device: None, died=died)
        for number in range(2)
    ]
    interfaces = Interfaces(host, table, slots, workers, MacPool(1), loopbacks=True)
    try:
        await interfaces.create_pair("epair0", PairSettings.model_validate({"queues": 2}))
        await interfaces.create_loopback("lo1", LoopbackSettings())
        for movable in movables(interfaces):
            assert not movable.destroying
            await movable.move((workers[1],) * len(movable.workers))
            assert set(movable.workers) == {workers[1]}
        assert workers[0].attachments == {}
        assert sorted(workers[1].attachments) == ["epair0.0", "epair0.1", "lo1"]
    finally:
        await interfaces.destroy_all()
        host.close()
        os.close(table.fd)
    assert list(movables(interfaces)) == []
