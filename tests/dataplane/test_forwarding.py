"""Properties of every kind of forwarding under any traffic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from epaird.dataplane.frames import HEADER
from epaird.dataplane.worker import FORWARDINGS
from epaird.ipc.counters import IERRORS, IN_FLIGHT, IPACKETS, OERRORS, OPACKETS, REASONS
from epaird.ipc.messages import CableKind
from tests.dataplane.conftest import Bench, frame

PACKETS = (
    frame(),
    frame()[:-1],
    frame(bytes(1514)),
    frame(bytes(1600)),
    bytes(HEADER) + bytes(IP(dst="10.0.0.1")),
    bytes(HEADER) + bytes(IP(dst="224.0.0.1")),
    bytes(HEADER) + bytes(IPv6(dst="fd88::1")),
    bytes(HEADER) + bytes(IPv6(dst="fd88::1"))[:-1],
)
STEPS = st.lists(st.one_of(st.none(), st.lists(st.sampled_from(PACKETS), max_size=5)), max_size=30)


@pytest.mark.parametrize("kind", [kind for kind in FORWARDINGS if kind != CableKind.CABLE])
@given(STEPS, st.integers(1, 6))
def test_every_frame_of_a_single_port_has_a_fate(
    kind: str, steps: list[list[bytes] | None], limit: int
) -> None:
    """The owner sends and receives at will; in the end every frame read is counted, and none waits."""
    bench = Bench(limit)
    try:
        port, owner, sent = bench.ports[0], bench.owners[0], 0
        bench.polls.stop_reading(bench.ports[1])
        forwarding = FORWARDINGS[kind](bench.pipeline, (port,))
        assert port.forwarding is forwarding
        port.limit = forwarding.link.read_limit((1500,))
        received = 0
        for step in steps:
            if step is None:
                received += len(owner.receives())
            for packet in step or ():
                try:
                    owner.sends(packet)
                except BlockingIOError:
                    break  # its ring is full: not sent
                sent += 1
            bench.loop()
        while arrived := owner.receives():
            received += len(arrived)
            bench.loop()
        words = port.account.words
        oerrors, ierrors = (
            sum(words[first + reason] for reason in range(len(REASONS))) for first in (OERRORS, IERRORS)
        )
        assert words[OPACKETS] + oerrors == sent
        if kind != CableKind.UNPLUGGED:
            assert words[OPACKETS] == words[IPACKETS] + ierrors
        assert words[IPACKETS] == received
        assert (words[IN_FLIGHT], bench.queue.length, port.refs) == (0, 0, 1)
        assert not bench.queue.oactive
    finally:
        bench.close()


def test_the_ports_of_a_cross_connect_share_it() -> None:
    bench = Bench()
    a, b = bench.ports
    assert a.forwarding is b.forwarding
    bench.close()
