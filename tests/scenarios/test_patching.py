"""Halves patched to other halves, while devices, addresses and hardware addresses stay."""

from __future__ import annotations

import asyncio
import socket

import pytest

from epaird.control.interfaces.frontend import FrontEnd
from epaird.control.readings import InterfaceReading
from tests.scenarios.control_plane import (
    ControlPlane,
    control_plane,
    in_thread,
    on_loop_in_lab,
    refused,
    wait_for_events,
)
from tests.scenarios.lab import Lab
from tests.scenarios.transfers import ping, tcp
from tests.sockets import force_receive_buffer
from tests.waiting import eventually

pytestmark = pytest.mark.real


async def two_pairs(control: ControlPlane) -> FrontEnd:
    """Create epair0 between red and blue and epair5 between green and white, all in one network."""
    for name, (a, b), first in (("epair0", ("red", "blue"), 1), ("epair5", ("green", "white"), 3)):
        halves = {
            half: {"netns": control.lab[netns].name, "name": "eth0", "addresses": [f"10.0.0.{number}/24"]}
            for number, (half, netns) in enumerate((("a", a), ("b", b)), first)
        }
        await control.interfaces.create(name, halves)
    return control.interfaces


def create_namespaces(lab: Lab) -> None:
    for name in ("red", "blue", "green", "white"):
        lab.namespace(name, ipv6=False)


@pytest.mark.parametrize("workers", [1, 2])
def test_patch(lab: Lab, workers: int) -> None:
    _patch(lab, workers)


@on_loop_in_lab
async def _patch(lab: Lab, workers: int) -> None:
    create_namespaces(lab)
    async with control_plane(lab, workers=workers) as control:
        interfaces = await two_pairs(control)
        macs = [control.reading(each).mac for each in ("epair0a", "epair0b", "epair5a", "epair5b")]
        red, white = lab["red"], lab["white"]
        await in_thread(ping, red, "10.0.0.2")
        assert (await refused(interfaces.patch("epair0a", "epair5b", force=False)))[0] == "EBUSY"
        await interfaces.patch("epair0a", "epair5b", force=True)
        red.ip("neigh flush all")
        await in_thread(ping, red, "10.0.0.4")
        await in_thread(tcp, white, red, "10.0.0.1", 5_000_000)
        assert [control.reading(each).peer for each in ("epair0a", "epair5b", "epair0b", "epair5a")] == [
            "epair5b", "epair0a", "", "",
        ]  # fmt: skip
        assert control.reading("epair0a").worker == control.reading("epair5b").worker
        assert [control.reading(each).carrier for each in ("epair0a", "epair5b", "epair0b", "epair5a")] == [
            True, True, False, False,
        ]  # fmt: skip
        # Unpatched halves need no force.
        await interfaces.patch("epair5a", "epair0b", force=False)
        await eventually(lambda: control.reading("epair5a").carrier and control.reading("epair0b").carrier)
        await in_thread(ping, lab["green"], "10.0.0.2")
        # The destruction of a pair unpatches the other pair's halves.
        await interfaces.destroy("epair0")
        assert [control.reading(each).peer for each in ("epair5a", "epair5b")] == ["", ""]
        assert [control.reading(each).carrier for each in ("epair5a", "epair5b")] == [False, False]
        await interfaces.patch("epair5a", "epair5b", force=False)
        await eventually(lambda: control.reading("epair5a").carrier and control.reading("epair5b").carrier)
        lab["green"].ip("neigh flush all")
        await in_thread(ping, lab["green"], "10.0.0.4")
        assert [control.reading(each).mac for each in ("epair5a", "epair5b")] == macs[2:]
        await control.at_rest("epair5a", "epair5b")


@on_loop_in_lab
async def test_refusals(lab: Lab) -> None:
    async with control_plane(lab) as control:
        interfaces = control.interfaces
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


@on_loop_in_lab
async def test_unpatched_halves_have_no_carrier_and_their_frames_count(lab: Lab) -> None:
    create_namespaces(lab)
    red = lab["red"]
    async with control_plane(lab) as control:
        interfaces = await two_pairs(control)
        await in_thread(ping, red, "10.0.0.2")
        events = interfaces.events()
        await interfaces.unpatch("epair0b")
        await wait_for_events(events, ("nocarrier", "epair0a"))
        await control.at_rest("epair0a", "epair0b")
        before = control.reading("epair0a")
        with red.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
            raw.bind(("eth0", 0))
            for _ in range(50):
                raw.send(bytes(60))
        after = control.reading("epair0a")
        dropped = after.stats.oqdrops - before.stats.oqdrops
        errors = after.stats.oerrors["peer_down"] - before.stats.oerrors["peer_down"]
        await eventually(lambda: _sent(control, "epair0a") - _sent_of(before) >= 50)
        assert dropped + errors <= 50
        assert control.reading("epair0a").stats.opackets == before.stats.opackets
        await interfaces.patch("epair0a", "epair0b", force=False)
        await eventually(lambda: control.reading("epair0a").carrier)
        await in_thread(ping, red, "10.0.0.2")


def _sent(control: ControlPlane, device: str) -> int:
    return _sent_of(control.reading(device))


def _sent_of(reading: InterfaceReading) -> int:
    return reading.stats.oqdrops + sum(reading.stats.oerrors.values()) + reading.stats.opackets


@on_loop_in_lab
async def test_no_frame_is_lost_or_reordered_by_patching_under_traffic(lab: Lab) -> None:
    create_namespaces(lab)
    async with control_plane(lab, workers=2) as control:
        interfaces = await two_pairs(control)
        red, blue, white = lab["red"], lab["blue"], lab["white"]
        sinks = {}
        for place, number in ((blue, 2), (white, 4)):
            sink = sinks[number] = place.socket(socket.AF_INET, socket.SOCK_DGRAM)
            force_receive_buffer(sink, 1 << 26)
            sink.bind(("", 7777))
        # Broadcasts, so that whichever half is patched receives them.
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

        async def wait_for_datagrams() -> None:
            goal = sent + 200
            await eventually(lambda: sent >= goal)

        task = asyncio.create_task(send())
        for _ in range(10):
            await wait_for_datagrams()
            for half in ("epair5b", "epair0b"):
                await interfaces.patch("epair0a", half, force=True)
                await wait_for_datagrams()
        sending = False
        await task
        await control.at_rest("epair0a", "epair0b", "epair5a", "epair5b")
        arrived = {number: list(_numbers(sink)) for number, sink in sinks.items()}
        for numbers in arrived.values():
            assert numbers == sorted(numbers)
        # epair0a was patched all the time, to one half or the other.
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


@on_loop_in_lab
async def test_a_worker_that_dies_settles_pairs_patched_across(lab: Lab) -> None:
    create_namespaces(lab)
    async with control_plane(lab) as control:
        interfaces = await two_pairs(control)
        await in_thread(ping, lab["red"], "10.0.0.2")
        await interfaces.patch("epair0a", "epair5b", force=True)
        lab["red"].ip("neigh flush all")
        await in_thread(ping, lab["red"], "10.0.0.4")
        await control.at_rest("epair0a", "epair5b")
        before = {each: control.reading(each) for each in ("epair0a", "epair5b", "epair0b", "epair5a")}
        await control.kill_worker()
        for device, reading in before.items():
            after = control.reading(device)
            assert (after.stats.oerrors, after.stats.ierrors) == (
                reading.stats.oerrors,
                reading.stats.ierrors,
            )
        await in_thread(ping, lab["red"], "10.0.0.4")


@on_loop_in_lab
async def test_carrier_off_applies_to_the_patched_peer(lab: Lab) -> None:
    create_namespaces(lab)
    async with control_plane(lab) as control:
        interfaces = await two_pairs(control)
        await interfaces.patch("epair0a", "epair5b", force=True)
        await eventually(lambda: control.reading("epair5b").carrier)
        await interfaces.change("epair0", {"carrier": "off"})
        await eventually(
            lambda: not control.reading("epair5b").carrier and not control.reading("epair0a").carrier
        )
        assert control.reading("epair5b").peer == "epair0a"
        await interfaces.change("epair0", {"carrier": "on"})
        await eventually(lambda: control.reading("epair5b").carrier and control.reading("epair0a").carrier)
        lab["red"].ip("neigh flush all")
        await in_thread(ping, lab["red"], "10.0.0.4")
