"""Random bursts of datagrams that are mostly alike, with all oddities that one may have; for hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.dataplane.datagrams import Datagram

ODDITIES: tuple[dict[str, Any], ...] = (
    {"tag": bytes.fromhex("81000007")},
    {"tos": 3},
    {"ttl": 63},
    {"fragment": 0},
    {"fragment": 0x6000},
    {"fragment": 0x2000},
    {"fragment": 0x4010},
    {"fragment": 0xC000},
    {"label": 0x54321},
    {"extension": bytes.fromhex("1100010400000000")},
    {"padding": b"\0"},
    {"padding": b"padding", "ip_more": 7},
    {"udp_more": 1},
    {"udp_more": -1},
    {"ip_more": 1},
    {"ip_more": -1},
    {"header_checksum_xor": 0x0001},
    {"header_checksum_xor": 0xFFFF},
    {"checksum_xor": 0x0100},
    {"checksum": 0},
    {"checksum": 0xFFFF},
    {"flags": 0},
    {"flags": 3},
    {"csum_offset": 16},
    {"hdr_len": 42},
    {"macs": bytes.fromhex("020000000002020000000003")},
    {"payload": b""},
    {"payload": b"y"},
)
"""Ways for a datagram to differ; each forbids joining it to those before it, or to any."""

ADVERSE_NUMBERS = st.sampled_from((0, 1, 40000, 65530, 65535))


@st.composite
def bursts(draw: st.DrawFn) -> list[Datagram]:
    """Up to 64 datagrams of one to four flows: runs, shorter ends, and some that are odd."""
    flows = draw(st.integers(1, 4))
    version = draw(st.sampled_from((4, 6)))
    numbers = [draw(ADVERSE_NUMBERS) for _ in range(flows)]
    fragment = draw(st.sampled_from((0, 0x4000)))
    burst: list[Datagram] = []
    interleaved = draw(st.booleans())
    while len(burst) < 64 and (not burst or draw(st.integers(0, 9))):
        size = draw(st.sampled_from((1, 2, 40, 64, 65, 1200, 1400)))
        count = draw(st.integers(1, 30))
        which = draw(st.integers(0, flows - 1))
        for place in range(count):
            flow = (which + place) % flows if interleaved else which
            payload = bytes((len(burst), place)) * (size // 2) + b"z" * (size % 2)
            burst.append(Datagram(payload, version, flow, numbers[flow], fragment=fragment))
            numbers[flow] += 1
        if draw(st.booleans()):
            burst[-1] = burst[-1].but(payload=burst[-1].payload[: draw(st.integers(1, size))])
        if not draw(st.integers(0, 3)):
            numbers[which] += draw(st.sampled_from((-1, 1, 2, 65536 - 7)))
    del burst[64:]
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(burst) - 1))
        burst[at] = burst[at].but(**draw(st.sampled_from(ODDITIES)))
    if not draw(st.integers(0, 3)):
        # A whole run that is odd in the same way: nothing in it differs from its neighbours.
        odd = draw(st.sampled_from(ODDITIES[:-2]))
        start = draw(st.integers(0, len(burst) - 1))
        burst[start:] = [each.but(**odd) for each in burst[start:]]
    return burst
