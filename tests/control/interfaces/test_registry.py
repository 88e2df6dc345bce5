"""What can be asked of the daemon, on a machine without a kernel."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from epaird.config.settings import LoopbackSettings
from epaird.control.interfaces import unregister
from epaird.control.interfaces.frontend import FrontEnd
from epaird.control.interfaces.registry import Registry
from epaird.control.operations import Refused
from epaird.control.readings import InterfaceReading
from epaird.control.workers.worker import Worker
from epaird.ipc.ledger import Slots, Table
from epaird.kernel.errors import KernelError
from epaird.names.macpool import MacPool
from tests.control.fake import FakeHost
from tests.control.stage import IdleWorker
from tests.loop import on_loop
from tests.waiting import eventually

HOST_ID = 1


@dataclass(slots=True)
class Scene:
    """Interfaces, the machine, and a worker."""

    host: FakeHost
    worker: Worker
    interfaces: FrontEnd
    registry: Registry

    def one(self, device: str) -> InterfaceReading:
        (found,) = self.interfaces.interface(device)
        return found

    def devices(self) -> list[str]:
        return sorted(self.host.links)


@asynccontextmanager
async def scene(
    *, real: bool = False, loopbacks: bool = True, queue_limit: int = 2100
) -> AsyncIterator[Scene]:
    host, table = FakeHost(), Table.create(64)
    slots = Slots(table)
    made: list[Registry] = []

    async def lost(worker: Worker) -> None:
        await made[0].worker_lost(worker)

    def gone(_cable: str, device: str) -> None:
        made[0].device_gone(device)

    worker: Worker
    if real:
        worker = Worker(
            0, table, slots.take(), queue_limit=queue_limit, poll_spin_us=0, gone=gone, lost=lost,
            told=lambda worker, report: made[0].worker_reported(worker, report),
        )  # fmt: skip
        await worker.start()
    else:
        worker = IdleWorker(0, table, slots.take(), gone=gone, lost=lost)
    registry = Registry(host, table, slots, [worker], MacPool(HOST_ID), loopbacks=True)
    made.append(registry)
    host.watch(registry.link_event)
    try:
        await registry.create("lo0", LoopbackSettings())
        yield Scene(host, worker, FrontEnd(registry), registry)
        await registry.destroy_all()
        assert not host.links
        assert not worker.attachments
    finally:
        if isinstance(worker, IdleWorker):
            worker.letting_go.set()
        await registry.destroy_all()
        await worker.stop()
        host.close()
        os.close(table.fd)


async def refused(request: Awaitable[object]) -> str:
    with pytest.raises(Refused) as refusal:
        await request
    return refusal.value.name


@on_loop
async def test_the_unit_of_one_that_is_being_made_is_taken() -> None:
    async with scene() as it:
        held = it.host.hold("open_tap")
        first = asyncio.create_task(it.interfaces.create("epair", {}))
        await eventually(held.reached.is_set)
        second = asyncio.create_task(it.interfaces.create("epair", {}))
        assert await refused(it.interfaces.create("epair0", {})) == "EEXIST"
        held.released.set()
        assert sorted([await first, await second]) == ["epair0", "epair1"]


@on_loop
async def test_whatever_the_kernel_refuses_is_refused_with_its_error() -> None:
    async with scene() as it:
        before = it.devices()
        for operation, code in (("open_tap", "EIO"), ("configure", "ENOMEM"), ("place", "EPERM")):
            it.host.fail(operation, getattr(errno, code))
            assert await refused(it.interfaces.create("epair", {})) == code
            assert it.devices() == before
        await it.interfaces.create("epair0", {})
        it.host.fail("reconfigure", errno.EINVAL)
        assert await refused(it.interfaces.change("epair0a", {"mtu": 9000})) == "EINVAL"
        assert it.one("epair0a").mtu == 1500


@on_loop
async def test_a_worker_that_refuses_leaves_the_patches_as_they_were() -> None:
    async with scene() as it:
        for name in ("epair0", "epair1"):
            await it.interfaces.create(name, {})
        assert isinstance(it.worker, IdleWorker)
        attach, attempts = it.worker.attach, 0

        async def refuse_once(attachment: object) -> None:
            nonlocal attempts
            attempts += 1
            if attempts == 1:
                raise KernelError(errno.EMFILE, "too many")
            await attach(attachment)  # type: ignore[arg-type]

        it.worker.attach = refuse_once  # type: ignore[method-assign]
        assert await refused(it.interfaces.patch("epair0a", "epair1b", force=True)) == "EMFILE"
        it.worker.attach = attach  # type: ignore[method-assign]
        assert [it.one(each).peer for each in ("epair0a", "epair0b", "epair1a", "epair1b")] == [
            "epair0b", "epair0a", "epair1b", "epair1a",
        ]  # fmt: skip
        assert set(it.worker.attachments) == {"lo0", "epair0", "epair1"}


@on_loop
async def test_the_wires_of_patched_and_unpatched_halves() -> None:
    async with scene() as it:
        for name in ("epair0", "epair1"):
            await it.interfaces.create(name, {})
        await it.interfaces.patch("epair0a", "epair1b", force=True)
        kinds = {name: each.spec.kind for name, each in it.worker.attachments.items()}
        assert kinds == {
            "lo0": "reflect", "epair0a-epair1b": "cable", "epair0b": "unplugged", "epair1a": "unplugged",
        }  # fmt: skip
        assert {name: it.host.links[name].carrier for name in it.devices() if name != "lo0"} == {
            "epair0a": True, "epair0b": False, "epair1a": False, "epair1b": True,
        }  # fmt: skip
        # Two pairs that are patched to each other go at once.
        await asyncio.gather(*(it.interfaces.destroy(name) for name in ("epair0", "epair1")))
        assert set(it.worker.attachments) == {"lo0"}


@on_loop
async def test_the_order_of_unregistering() -> None:
    async with scene() as it:
        assert isinstance(it.worker, IdleWorker)
        await it.interfaces.create("epair0", {})
        events = it.interfaces.events()
        it.worker.letting_go.clear()
        going = asyncio.create_task(it.interfaces.destroy("epair0"))
        await eventually(lambda: "epair0" not in it.worker.attachments)
        assert "epair0a" in it.host.links
        assert await refused(it.interfaces.destroy("epair0b")) == "EBUSY"
        it.worker.letting_go.set()
        await going
        told = [(await anext(events)).what for _ in range(4)]
        assert told == ["unregistering", "unregistering", "destroyed", "destroyed"]


@on_loop
async def test_references_that_do_not_go_are_said_again_and_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("CLOSING_S", "SILENT_S", "REPEAT_S"):
        monkeypatch.setattr(unregister, name, 0.02)
    async with scene() as it:
        assert isinstance(it.worker, IdleWorker)
        await it.interfaces.create("lo1", {})
        it.worker.letting_go.clear()
        going = asyncio.create_task(it.interfaces.destroy("lo1"))
        line = "waiting for lo1 to become free. Usage count = 2"
        await eventually(lambda: caplog.messages.count(line) >= 3)
        # The device has been withdrawn, and the name is not free yet.
        assert "lo1" not in it.host.links
        assert await refused(it.interfaces.create("lo1", {})) == "EEXIST"
        it.worker.letting_go.set()
        await going
        await it.interfaces.create("lo1", {})


@on_loop
async def test_a_queue_that_fills_and_drains_is_told() -> None:
    async with scene(real=True, queue_limit=4) as it:
        await it.interfaces.create("epair0", {})
        events = it.interfaces.events()
        a, b = (it.host.links[device].owner for device in ("epair0a", "epair0b"))
        while not it.worker.reading().oactive:
            a.sends_all_it_can()
            await asyncio.sleep(0.001)
        reading = it.one("epair0b")
        assert reading.held_bytes > 0
        assert reading.refs == 1 + 4
        event = await anext(events)
        assert (event.what, event.interface, event.detail) == (
            "overflow", "", "worker 0, found so by epair0a",
        )  # fmt: skip
        draining = asyncio.create_task(anext(events))
        while not draining.done():
            b.receives()
            await asyncio.sleep(0.001)
        assert (await draining).what == "drained"
        assert it.one("epair0b").held_bytes == 0


@on_loop
async def test_policy_routing_comes_and_goes_with_the_settings() -> None:
    async with scene() as it:
        settings = {"mode": "verbatim", "policy_routing": True, "addresses": ["10.88.7.1/24"]}
        await it.interfaces.create("lo1", settings)

        def routed() -> tuple[str, ...]:
            return it.host.links["lo1"].routed

        assert routed() == ("10.88.7.1/24",)
        await it.interfaces.change("lo1", {"addresses": ["10.88.8.1/24"]})
        assert routed() == ("10.88.8.1/24",)
        await it.interfaces.change("lo1", {"policy_routing": False})
        assert routed() == ()
        it.host.fail("route_through", errno.EPERM)
        assert await refused(it.interfaces.create("lo2", settings)) == "EPERM"
        assert it.devices() == ["lo0", "lo1"]


@on_loop
async def test_names_are_found_by_what_never_changes_first() -> None:
    async with scene() as it:
        for name in ("epair0", "epair1"):
            await it.interfaces.create(name, {})
        place = it.host.links["epair0a"].place
        await it.host.rename(it.host.links["epair0a"].tap, place, "epair1a")
        it.host.tell(it.host.event("epair0a"))
        assert [each.device for each in it.interfaces.interface("epair1a")] == ["epair1a"]
        assert it.one("epair0a").name == "epair1a"
        with pytest.raises(Refused, match="there is no interface"):
            it.interfaces.interface("epair7")
