"""The datagrams that a kernel makes of super-frames, compared with the same datagrams written one by one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.dataplane.bursts import bursts
from tests.dataplane.datagrams import MAC_B, Datagram
from tests.dataplane.hop import Hop, bridged, home, ip
from tests.dataplane.test_coalesce import BURST, series
from tests.kernel.named import within
from tests.waiting import DEADLINE_S

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def hop() -> Iterator[Hop]:
    with bridged(f"eptcoh{os.getpid()}") as made:
        yield made


@given(bursts())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_next_hop_gets_the_same_bytes_in_the_same_order(hop: Hop, burst: list[Datagram]) -> None:
    frames = [bytes(each) for each in burst]
    deliveries = BURST.plan(frames)
    in_order = [frames[slot] for delivery in deliveries for slot in delivery.slots]
    assert hop.delivered(frames, deliveries) == hop.single(in_order)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [1, 64, 1400, 9000])
def test_the_kernel_cuts_a_super_frame_into_the_datagrams_sent(hop: Hop, version: int, size: int) -> None:
    count = min(64, 65507 // size)
    frames = [
        bytes(each.but(payload=bytes((i,)) * size))
        for i, each in enumerate(series(count, 65535 - count, version=version))
    ]
    deliveries = BURST.plan(frames)
    assert [len(delivery.slots) for delivery in deliveries] == [count]
    arrived = hop.delivered(frames, deliveries)
    assert len(arrived) == count
    assert arrived == hop.single(frames)


@pytest.mark.parametrize("version", [4, 6])
def test_a_socket_receives_every_datagram_in_order(version: int) -> None:
    name = f"eptcos{os.getpid()}"
    family, address = (socket.AF_INET, "10.9.0.2") if version == 4 else (socket.AF_INET6, "fd00::bb")
    payloads = [bytes((i,)) * (700 if i % 20 != 19 else 3) for i in range(64)]
    frames = [bytes(Datagram(payload, version, number=i)) for i, payload in enumerate(payloads)]
    with (
        home(name, ("eptin", True)) as (into,),
        within(name),
        socket.socket(family, socket.SOCK_DGRAM) as receiver,
    ):
        Path("/proc/sys/net/ipv6/conf/eptin/disable_ipv6").write_text("0")
        ip(name, f"link set eptin address {MAC_B.hex(':')} up")
        ip(name, f"addr add {address}/{24 if version == 4 else 64} dev eptin" + " nodad" * (version == 6))
        receiver.settimeout(DEADLINE_S)
        receiver.bind((address, 9999))
        deliveries = BURST.plan(frames)
        assert [len(delivery.slots) for delivery in deliveries] == [20, 20, 20, 4]
        for buffers, slots in deliveries:
            for pieces in [buffers] if buffers is not None else [[frames[slot]] for slot in slots]:
                os.writev(into, pieces)
        assert [receiver.recv(2000) for _ in payloads] == payloads
