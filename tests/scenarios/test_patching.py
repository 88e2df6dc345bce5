"""Halves plugged into others while devices, addresses and hardware addresses stay."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import pytest

from epaird.control.interfaces.registry import Interfaces
from epaird.control.readings import InterfaceReading
from tests.scenarios.lab import Lab
from tests.scenarios.living import Life, beside, happens, life, living, refused
from tests.scenarios.transfers import ping, tcp
from tests.waiting import eventually

pytestmark = pytest.mark.real


async def two_pairs(it: Life) -> Interfaces:
    """epair0 joins red and blue, epair5 green and white; all have addresses of one network."""
    for name, (a, b), first in (("epair0", ("red", "blue"), 1), ("epair5", ("green", "white"), 3)):
        halves = {
            half: {"netns": it.lab[netns].name, "name": "eth0", "addresses": [f"10.0.0.{number}/24"]}
            for number, (half, netns) in enumerate((("a", a), ("b", b)), first)
        }
        await it.interfaces.create(name, halves)
    return it.interfaces


def namespaces(lab: Lab) -> None:
    for name in ("red", "blue", "green", "white"):
        lab.namespace(name, ipv6=False)


@pytest.mark.parametrize("workers", [1, 2])
def test_patch(lab: Lab, workers: int) -> None:
    _patch(lab, workers)


@living
async def _patch(lab: Lab, workers: int) -> None:
    namespaces(lab)
    async with life(lab, workers=workers) as it:
        interfaces = await two_pairs(it)
        macs = [it.one(each).mac for each in ("epair0a", "epair0b", "epair5a", "epair5b")]
        red, white = lab["red"], lab["white"]
        await beside(ping, red, "10.0.0.2")
        assert (await refused(interfaces.patch("epair0a", "epair5b", force=False)))[0] == "EBUSY"
        await interfaces.patch("epair0a", "epair5b", force=True)
        red.ip("neigh flush all")
        await beside(ping, red, "10.0.0.4")
        await beside(tcp, white, red, "10.0.0.1", 5_000_000)
        assert [it.one(each).peer for each in ("epair0a", "epair5b", "epair0b", "epair5a")] == [
            "epair5b", "epair0a", "", "",
        ]  # fmt: skip
        assert it.one("epair0a").worker == it.one("epair5b").worker
        assert [it.one(each).carrier for each in ("epair0a", "epair5b", "epair0b", "epair5a")] == [
            True, True, False, False,
        ]  # fmt: skip
        # Unpatched ones need no force.
        await interfaces.patch("epair5a", "epair0b", force=False)
        await eventually(lambda: it.one("epair5a").carrier and it.one("epair0b").carrier)
        await beside(ping, lab["green"], "10.0.0.2")
        # On destruction the other pair's halves become unpatched.
        await interfaces.destroy("epair0")
        assert [it.one(each).peer for each in ("epair5a", "epair5b")] == ["", ""]
        assert [it.one(each).carrier for each in ("epair5a", "epair5b")] == [False, False]
        await interfaces.patch("epair5a", "epair5b", force=False)
        await eventually(lambda: it.one("epair5a").carrier and it.one("epair5b").carrier)
        lab["green"].ip("neigh flush all")
        await beside(ping, lab["green"], "10.0.0.4")
        assert [it.one(each).mac for each in ("epair5a", "epair5b")] == macs[2:]
        await it.at_rest("epair5a", "epair5b")


@living
async def test_refusals(lab: Lab) -> None:
    async with life(lab) as it:
        interfaces = it.interfaces
        await interfaces.create("epair0", {})
        await interfaces.create("epair1", {"queues": 2})
        for name, peer, code in (
            ("epair0a", "epair0a", "EINVAL"), ("epair0a", "lo0", "ENODEV"), ("lo0", "epair0a", "ENODEV"),
            ("epair0", "epair1a", "EINVAL"), ("epair0a", "epair9a", "ENXIO"),
            ("epair0a", "epair1a", "EINVAL"),
        ):  # fmt: skip
            assert (await refused(interfaces.patch(name, peer, force=True)))[0] == code, (name, peer)
        assert (await refused(interfaces.unpatch("lo0")))[0] == "ENODEV"
        assert (await refused(interfaces.unpatch("epair7a")))[0] == "ENXIO"
        await interfaces.patch("epair0a", "epair0b", force=False)
        await interfaces.unpatch("epair0a")
        await interfaces.unpatch("epair0a")


@living
async def test_unpatched_halves_have_no_carrier_and_their_frames_count(lab: Lab) -> None:
    namespaces(lab)
    red = lab["red"]
    async with life(lab) as it:
        interfaces = await two_pairs(it)
        await beside(ping, red, "10.0.0.2")
        events = interfaces.events()
        await interfaces.unpatch("epair0b")
        await happens(events, ("nocarrier", "epair0a"))
        await it.at_rest("epair0a", "epair0b")
        before = it.one("epair0a")
        with red.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
            raw.bind(("eth0", 0))
            for _ in range(50):
                raw.send(bytes(60))
        after = it.one("epair0a")
        dropped = after.stats.oqdrops - before.stats.oqdrops
        errors = after.stats.oerrors["peer_down"] - before.stats.oerrors["peer_down"]
        await eventually(lambda: _sent(it, "epair0a") - _sent_of(before) >= 50)
        assert dropped + errors <= 50
        assert it.one("epair0a").stats.opackets == before.stats.opackets
        await interfaces.patch("epair0a", "epair0b", force=False)
        await eventually(lambda: it.one("epair0a").carrier)
        await beside(ping, red, "10.0.0.2")


def _sent(it: Life, device: str) -> int:
    return _sent_of(it.one(device))


def _sent_of(reading: InterfaceReading) -> int:
    return reading.stats.oqdrops + sum(reading.stats.oerrors.values()) + reading.stats.opackets


@living
async def test_no_frame_is_lost_or_reordered_by_patching_under_traffic(lab: Lab) -> None:
    namespaces(lab)
    async with life(lab, workers=2) as it:
        interfaces = await two_pairs(it)
        red, blue, white = lab["red"], lab["blue"], lab["white"]
        sinks = {}
        for place, number in ((blue, 2), (white, 4)):
            sink = sinks[number] = place.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sink.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)
            sink.bind(("", 7777))
        # Broadcasts, so that who is patched is who hears.
        sender = red.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sender.bind(("10.0.0.1", 0))
        sending = True
        sent = 0

        async def send() -> None:
            nonlocal sent
            while sending:
                sender.sendto(sent.to_bytes(8), ("10.0.0.255", 7777))
                sent += 1
                await asyncio.sleep(0)

        async def some_are_sent() -> None:
            goal = sent + 200
            await eventually(lambda: sent >= goal)

        task = asyncio.create_task(send())
        for _ in range(10):
            await some_are_sent()
            for half in ("epair5b", "epair0b"):
                await interfaces.patch("epair0a", half, force=True)
                await some_are_sent()
        sending = False
        await task
        await it.at_rest("epair0a", "epair0b", "epair5a", "epair5b")
        arrived = {number: list(_numbers(sink)) for number, sink in sinks.items()}
        for numbers in arrived.values():
            assert numbers == sorted(numbers)
        # epair0a was patched all the time, to one or the other.
        assert sorted(arrived[2] + arrived[4]) == list(range(sent))
        assert min(map(len, arrived.values())) > 1000


def _numbers(sink: socket.socket) -> list[int]:
    sink.setblocking(False)
    found = []
    while True:
        try:
            found.append(int.from_bytes(sink.recv(64)))
        except BlockingIOError:
            return found


@living
async def test_a_worker_that_dies_settles_what_is_patched_across_pairs(lab: Lab) -> None:
    namespaces(lab)
    async with life(lab) as it:
        interfaces = await two_pairs(it)
        await beside(ping, lab["red"], "10.0.0.2")
        await interfaces.patch("epair0a", "epair5b", force=True)
        lab["red"].ip("neigh flush all")
        await beside(ping, lab["red"], "10.0.0.4")
        await it.at_rest("epair0a", "epair5b")
        worker = it.workers[0]
        before = {each: it.one(each) for each in ("epair0a", "epair5b", "epair0b", "epair5a")}
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        await eventually(lambda: worker.restarts == 1 and worker.forwards)
        for device, reading in before.items():
            after = it.one(device)
            assert (after.stats.oerrors, after.stats.ierrors) == (
                reading.stats.oerrors,
                reading.stats.ierrors,
            )
        await beside(ping, lab["red"], "10.0.0.4")


@living
async def test_carrier_off_pulls_the_plug_of_whatever_is_patched(lab: Lab) -> None:
    namespaces(lab)
    async with life(lab) as it:
        interfaces = await two_pairs(it)
        await interfaces.patch("epair0a", "epair5b", force=True)
        await eventually(lambda: it.one("epair5b").carrier)
        await interfaces.change("epair0", {"carrier": "off"})
        await eventually(lambda: not it.one("epair5b").carrier and not it.one("epair0a").carrier)
        assert it.one("epair5b").peer == "epair0a"
        await interfaces.change("epair0", {"carrier": "on"})
        await eventually(lambda: it.one("epair5b").carrier and it.one("epair0a").carrier)
        lab["red"].ip("neigh flush all")
        await beside(ping, lab["red"], "10.0.0.4")
