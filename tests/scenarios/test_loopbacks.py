"""Loopbacks: frames sent to one come back, reflected or verbatim."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct

import pytest

from tests.scenarios.control_plane import (
    ControlPlane,
    control_plane,
    in_thread,
    on_loop_in_lab,
    pair_settings,
    refused,
)
from tests.scenarios.lab import Lab
from tests.scenarios.namespaces import Namespace
from tests.scenarios.transfers import ping, tcp
from tests.waiting import eventually

pytestmark = pytest.mark.real

SUBNETS = {"addresses": ["10.88.7.1/24", "fd88:7::1/64"]}


def loopback(lab: Lab, **settings: object) -> dict[str, object]:
    return {"netns": lab["red"].name, **SUBNETS, **settings}


def balanced(control: ControlPlane, device: str) -> bool:
    """Return whether the books of a loopback balance to the packet."""
    reading = control.reading(device)
    place = control.lab.by_name(reading.netns) if reading.netns else control.lab.home
    kernel = place.links()[reading.name]
    return (
        kernel.tx_packets == reading.stats.opackets + sum(reading.stats.oerrors.values())
        and reading.stats.opackets == reading.stats.ipackets + sum(reading.stats.ierrors.values())
        and kernel.tx_dropped == reading.stats.oqdrops
        and reading.refs == 1
        and reading.held_bytes == 0
    )


@on_loop_in_lab
async def test_lo0_exists_with_the_attributes_of_a_loopback(lab: Lab) -> None:
    async with control_plane(lab) as control:
        (link,) = json.loads(lab.home.ip("-j link show lo0"))
        assert link["mtu"] == 33624
        assert {"MULTICAST", "NOARP", "UP"} <= set(link["flags"])
        reading = control.reading("lo0")
        assert (reading.kind, reading.pair, reading.half, reading.peer) == ("lo", "", "", "")
        assert (reading.up, reading.carrier, reading.mac) == (True, True, "")
        await control.interfaces.create("lo1", {"mtu": 65535})
        await control.interfaces.change("lo1", {"mtu": 40000})
        assert control.reading("lo1").mtu == 40000


@on_loop_in_lab
async def test_reflect_answers_for_every_address_of_its_subnets(lab: Lab) -> None:
    red = lab.namespace("red")
    async with control_plane(lab) as control:
        await control.interfaces.create("lo1", loopback(lab))
        await in_thread(red.wait_for_dad, "lo1")
        for address in ("10.88.7.2", "10.88.7.77", "10.88.7.254", "fd88:7::2", "fd88:7::77:1"):
            await in_thread(ping, red, address)
            await in_thread(ping, red, address, "-s", "20000")
        for address in ("10.88.7.9", "fd88:7::9"):
            await in_thread(tcp_to_oneself, red, address)
            await in_thread(udp_to_oneself, red, address)
        await eventually(lambda: balanced(control, "lo1"))
        reading = control.reading("lo1")
        assert reading.stats.opackets == reading.stats.ipackets > 50
        assert reading.stats.obytes == reading.stats.ibytes > 20_000_000


def tcp_to_oneself(place: Namespace, address: str, octets: int = 20_000_000) -> None:
    """Send by TCP to an address that no interface has: a wildcard listener in this namespace answers."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = place.socket(family, socket.SOCK_STREAM)
    listener.bind(("", 0))
    listener.listen()
    sender = place.socket(family, socket.SOCK_STREAM)
    sender.connect((address, listener.getsockname()[1]))
    receiver, peer = listener.accept()
    assert peer[0] == address
    receiver.settimeout(20)
    chunk = bytes(range(256)) * 256
    received = 0
    sender.setblocking(False)
    sent = 0
    while received < octets:
        with contextlib.suppress(BlockingIOError):
            sent += sender.send(chunk[: octets - sent]) if sent < octets else 0
        try:
            received += len(receiver.recv(1 << 20, socket.MSG_DONTWAIT))
        except BlockingIOError:
            continue
    for each in (listener, sender, receiver):
        each.close()


def udp_to_oneself(place: Namespace, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with place.socket(family, socket.SOCK_DGRAM) as sink, place.socket(family, socket.SOCK_DGRAM) as source:
        sink.bind(("", 0))
        # A super-frame of ten datagrams.
        source.setsockopt(socket.SOL_UDP, 103, 100)
        source.sendto(
            b"".join(bytes([number]) * 100 for number in range(10)), (address, sink.getsockname()[1])
        )
        for number in range(10):
            assert sink.recvfrom(1000)[0] == bytes([number]) * 100


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["udp", "tcp"])
def test_a_closed_port_refuses_at_once_as_that_of_lo(lab: Lab, kind: socket.SocketKind) -> None:
    _closed_port(lab, kind)


@on_loop_in_lab
async def _closed_port(lab: Lab, kind: socket.SocketKind) -> None:
    red = lab.namespace("red")
    async with control_plane(lab) as control:
        await control.interfaces.create("lo1", loopback(lab))
        await in_thread(red.wait_for_dad, "lo1")
        for address in ("127.0.0.1", "10.88.7.1", "10.88.7.77", "fd88:7::1", "fd88:7::77"):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with red.socket(family, kind) as client, pytest.raises(ConnectionRefusedError):
                await in_thread(ask, client, address)
        await eventually(lambda: balanced(control, "lo1"))


def ask(client: socket.socket, address: str) -> bytes:
    """Send a question to a port where nobody listens."""
    client.connect((address, 4999))
    client.send(b"?")
    return client.recv(9)


@on_loop_in_lab
async def test_errors_reach_a_neighbour_whose_packets_are_forwarded(lab: Lab) -> None:
    """Of traceroute to an address of a loopback, and of a packet that is too long on its way back."""
    red, blue = lab.namespace("red"), lab.namespace("blue")
    for family in ("ipv4", "ipv6"):
        red.write(f"/proc/sys/net/{family}/conf/all/forwarding", "1")
    async with control_plane(lab) as control:
        await control.interfaces.create("epair0", pair_settings(lab))
        await control.interfaces.create("lo1", loopback(lab))
        for place, device in ((red, "eth0"), (red, "lo1"), (blue, "eth0")):
            await in_thread(place.wait_for_dad, device)
        blue.ip("route add 10.88.7.0/24 via 10.0.0.1")
        blue.ip("-6 route add fd88:7::/64 via fd00::1")
        for address, router in (("10.88.7.9", "10.0.0.1"), ("fd88:7::9", "fd00::1")):
            await in_thread(ping, blue, address)
            hops = [await in_thread(hop, blue, address, number) for number in (1, 2, 3)]
            assert hops == [
                (router, TIME_EXCEEDED), (address, TIME_EXCEEDED), (address, PORT_UNREACHABLE),
            ]  # fmt: skip
        red.ip("route add 10.0.0.2/32 dev eth0 mtu lock 1400")
        red.ip("-6 route add fd00::2/128 dev eth0 mtu lock 1400")
        for address in ("10.88.7.9", "fd88:7::9"):
            assert await in_thread(hop, blue, address, 64, 1450) == (address, TOO_BIG)
        await eventually(lambda: balanced(control, "lo1"))


TIME_EXCEEDED = "time exceeded"
PORT_UNREACHABLE = "port unreachable"
TOO_BIG = "too big, 1400"
_MEANINGS = {
    (2, 11, 0): TIME_EXCEEDED,
    (2, 3, 3): PORT_UNREACHABLE,
    (2, 3, 4): TOO_BIG,
    (3, 3, 0): TIME_EXCEEDED,
    (3, 1, 4): PORT_UNREACHABLE,
    (3, 2, 0): TOO_BIG,
}
"""By origin, type and code of an extended error: ICMP is 2, ICMPv6 3."""


def hop(place: Namespace, address: str, ttl: int, size: int = 32) -> tuple[str, str]:
    """Send a datagram to a closed port; return who reports which error about it."""
    version6 = ":" in address
    level, receive_errors, time_to_live = (41, 25, 16) if version6 else (0, 11, 2)
    discover, probe = (23 if version6 else 10), 3
    with place.socket(socket.AF_INET6 if version6 else socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(level, receive_errors, 1)
        sender.setsockopt(level, time_to_live, ttl)
        sender.setsockopt(level, discover, probe)
        sender.connect((address, 33434))
        sender.send(bytes(size))
        poll = select.poll()
        poll.register(sender, 0)
        assert poll.poll(10_000), f"no error for {address} at {ttl} hops"
        _, ancillary, _, _ = sender.recvmsg(2000, 512, socket.MSG_ERRQUEUE)
    (data,) = (data for each, kind, data in ancillary if (each, kind) == (level, receive_errors))
    # struct sock_extended_err, and the address of its sender
    _, origin, kind, code, _, info, _ = struct.unpack_from("=IBBBBII", data)
    meaning = _MEANINGS[origin, kind, code]
    assert meaning != TOO_BIG or info == 1400
    offender = data[24:40] if version6 else data[20:24]
    return socket.inet_ntop(sender.family, offender), meaning


@on_loop_in_lab
async def test_verbatim_with_policy_routing_carries_traffic_to_the_own_address(lab: Lab) -> None:
    red = lab.namespace("red")
    rules_before, rules6_before = red.ip("rule show"), red.ip("-6 rule show")
    async with control_plane(lab) as control:
        settings = {"mode": "verbatim", "policy_routing": True}
        await control.interfaces.create("lo1", loopback(lab, **settings))
        await control.interfaces.create("lo2", loopback(lab, **settings, addresses=["10.88.8.1/24"]))
        await in_thread(red.wait_for_dad, "lo1")
        for address in ("10.88.7.1", "fd88:7::1"):
            before = control.reading("lo1").stats.ipackets
            await in_thread(ping, red, address)
            await in_thread(tcp, red, red, address, 5_000_000)
            assert control.reading("lo1").stats.ipackets > before + 20
        await in_thread(ping, red, "10.88.8.1")
        assert control.reading("lo2").stats.ipackets >= 10
        await in_thread(ping, red, "127.0.0.1")
        await eventually(lambda: balanced(control, "lo1"))
        await control.interfaces.destroy("lo1")
        await in_thread(ping, red, "10.88.8.1")
        assert control.reading("lo2").stats.ipackets >= 20
        await control.interfaces.change("lo2", {"policy_routing": False})
        assert red.ip("rule show") == rules_before
        await control.interfaces.change("lo2", {"policy_routing": True})
        await control.interfaces.destroy("lo2")
        assert red.ip("rule show") == rules_before
        assert red.ip("-6 rule show") == rules6_before
        assert "10.88" not in red.ip("route show table all")
        await in_thread(ping, red, "127.0.0.1")


@on_loop_in_lab
async def test_policy_routing_requires_verbatim(lab: Lab) -> None:
    async with control_plane(lab) as control:
        code, text = await refused(control.interfaces.create("lo1", {"policy_routing": True}))
        assert code == "EINVAL"
        assert 'lo.lo1.policy_routing: true needs mode = "verbatim"' in text


@on_loop_in_lab
async def test_the_mode_changes_in_place(lab: Lab) -> None:
    red = lab.namespace("red")
    async with control_plane(lab) as control:
        await control.interfaces.create("lo1", loopback(lab, mode="verbatim"))
        await control.interfaces.change("lo1", {"mode": "reflect"})
        await in_thread(ping, red, "10.88.7.9")


@on_loop_in_lab
async def test_other_families_are_counted_and_logged_once(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    red = lab.namespace("red", ipv6=False)
    async with control_plane(lab) as control:
        await control.interfaces.create("lo1", loopback(lab, addresses=["10.88.7.1/24"]))
        before = control.reading("lo1")
        with red.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as raw:
            for _ in range(3):
                raw.sendto(struct.pack("!I", 0x70000000) + bytes(40), ("lo1", 0x88B5))
        await eventually(
            lambda: (
                control.reading("lo1").stats.opackets == before.stats.opackets + 3
                and balanced(control, "lo1")
            )
        )
        after = control.reading("lo1")
        assert after.stats.ierrors["family"] == 3
        assert after.stats.obytes == before.stats.obytes + 3 * 44
        assert after.stats.ipackets == before.stats.ipackets
        await eventually(lambda: any("neither IPv4 nor IPv6" in each for each in caplog.messages))
        await control.interfaces.destroy("lo1")
        assert len([each for each in caplog.messages if "neither IPv4 nor IPv6" in each]) == 1


@on_loop_in_lab
async def test_a_full_queue_is_oqdrops(lab: Lab) -> None:
    red = lab.namespace("red", ipv6=False)
    async with control_plane(lab) as control:
        await control.interfaces.create("lo1", loopback(lab, addresses=["10.88.7.1/24"], txqueuelen=8))
        sink = red.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sink.bind(("", 0))
        sender = red.socket(socket.AF_INET, socket.SOCK_DGRAM)
        pid = control.worker_pid()
        os.kill(pid, signal.SIGSTOP)
        for _ in range(100):
            with contextlib.suppress(OSError):  # a full ring may be reported as ENOBUFS
                sender.sendto(bytes(1000), ("10.88.7.9", sink.getsockname()[1]))
        assert control.reading("lo1").stats.oqdrops == 92
        os.kill(pid, signal.SIGCONT)
        await eventually(lambda: control.reading("lo1").stats.ipackets == 8 and balanced(control, "lo1"))


@on_loop_in_lab
async def test_a_device_deleted_by_others_takes_its_loopback_down(lab: Lab) -> None:
    async with control_plane(lab) as control:
        await control.interfaces.create("lo1", {})
        lab.home.ip("link del lo1")
        await eventually(lambda: len(control.registry.loopbacks) == 1)
        assert control.inventory()["attachments"] == ["lo0"]


@on_loop_in_lab
async def test_a_worker_that_dies_settles_its_loopbacks(lab: Lab) -> None:
    red = lab.namespace("red")
    async with control_plane(lab) as control:
        await control.interfaces.create("lo1", loopback(lab))
        await in_thread(ping, red, "10.88.7.9")
        await control.kill_worker()
        await in_thread(ping, red, "10.88.7.9")
        await eventually(lambda: balanced(control, "lo1"))
