"""Pairs: the devices that are created for them, their workers and addresses."""

from __future__ import annotations

from collections.abc import Callable

from epaird.kernel.link import Address, Route
from tests.control.stage import idle_stage
from tests.loop import on_loop


@on_loop
async def test_a_pair_is_created_forwarded_moved_and_configured() -> None:
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
        assert a.settings.addresses == (Address("10.0.0.1/24"), Address("fd00::1/64"))
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
async def test_a_halfs_index_chooses_the_worker_and_queues_are_spread() -> None:
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
async def test_two_workers_share_the_pairs_although_indices_differ_by_two() -> None:
    async with idle_stage(2) as stage:
        for number in range(6):
            await stage.make(f"epair{number}")
        assert [len(worker.attachments) for worker in stage.workers] == [3, 3]


@on_loop
async def test_no_hardware_address_is_derived_twice() -> None:
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
async def test_missing_offloads_are_logged_unless_offload_is_off(
    warnings: Callable[[], list[str]],
) -> None:
    async with idle_stage() as stage:
        stage.host.missing = ("USO", "ECN")
        await stage.make()
        assert warnings() == [
            f"epair0{side}: this kernel has no USO and no ECN; continuing without" for side in "ab"
        ]
        await stage.make("epair1", offload=False)
        assert warnings() == []
