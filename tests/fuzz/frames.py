"""Frames with any virtio_net_hdr: each has one fate, and what is delivered is what was sent."""

from __future__ import annotations

import struct
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from hypothesis import strategies as st

from epaird.dataplane.burst import BURST_BYTES
from epaird.dataplane.frames import FRAME_MAX, HEADER
from epaird.dataplane.headers import ICMP, ICMPV6
from epaird.dataplane.segmenting import segment
from epaird.dataplane.superframe import NotSegmentable
from epaird.ipc.counters import (
    COALESCED_DATAGRAMS,
    COALESCED_SUPERFRAMES,
    IERRORS,
    IPACKETS,
    OERRORS,
    OPACKETS,
    REASONS,
    TOO_BIG,
)
from epaird.ipc.ledger import Words
from epaird.kernel.abi import VIRTIO_NET_HDR_F_NEEDS_CSUM
from tests.dataplane.bursts import bursts
from tests.dataplane.conftest import Bench, Owner
from tests.dataplane.datagrams import segments
from tests.dataplane.superframes import Offloaded, offloaded
from tests.dataplane.test_reflector import Bench as Loopback
from tests.fuzz.mutations import mutated
from tests.fuzz.target import Target, nothing

LONGEST: Final = FRAME_MAX + 100
"""Bytes of a frame that fills a whole buffer, and more."""
_TOKENS: Final = (
    b"\x08\0", b"\x86\xdd", b"\x81\0", b"\x88\xa8", b"\x81\0\0\1" * 20, b"E", b"F", b"O", b"@", b"`",
    b"\x01", b"\x06", b"\x11", b"\x3a", b"\x2c", b"\0" * 8, b"\xff" * 8, b"\x2c\0\0\1", b"\x33\xff",
    b"\xff\x02",
)  # fmt: skip
_ODD: Final = (0, 1, 2, 6, 8, 13, 14, 16, 20, 34, 40, 54, 58, 100, 1448, 1500, 8000, 32767, 65515, 65535)


@st.composite
def virtio_headers(draw: st.DrawFn) -> bytes:
    """Return any virtio_net_hdr, mostly of kinds and sizes that have a meaning."""
    flags = draw(st.sampled_from((0, 1, 1, 1, 2, 3, 4, 0xFF)))
    kind = draw(st.sampled_from((0, 1, 1, 3, 4, 4, 5, 5, 0x20, 0x81, 0x84, 0x85, 0xFF)))
    numbers = [draw(st.sampled_from(_ODD) | st.integers(0, 0xFFFF)) for _ in range(3)]
    gso_size = draw(st.sampled_from((0, 1, 7, 536, 1448, 8000, 65515, 65535)) | st.integers(0, 0xFFFF))
    return struct.pack("<BBHHHH", flags, kind, numbers[0], gso_size, *numbers[1:])


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Return a frame that a kernel sends, or nearly one."""
    frame = bytes(draw(offloaded()))
    if draw(st.booleans()):
        frame = draw(virtio_headers()) + frame[HEADER:]
    if draw(st.integers(0, 2)) == 0:
        head = draw(mutated(frame[:120], _TOKENS))
        frame = head + frame[120:]
    match draw(st.integers(0, 5)):
        case 0:
            frame = frame[: draw(st.integers(0, 150))]
        case 1:
            frame = frame.ljust(
                draw(st.sampled_from((60, 1500, 1530, 9100, 65535, 65549, FRAME_MAX, LONGEST))), b"\x5a"
            )
        case _:
            pass
    return frame or b"\0"


@dataclass(frozen=True, slots=True)
class Cable:
    """Frames for a cable, and its options."""

    sent: tuple[bytes, ...]
    """Frames, all from one half."""
    mtu: int = 1500
    offload: bool = True
    """True when the receiver takes super-frames."""
    coalesce: bool = True
    reads_every: int = 1
    """The receiver reads after so many frames."""


_CABLES: Final = st.builds(
    Cable,
    sent=st.lists(frames(), min_size=1, max_size=8).map(tuple)
    | st.builds(lambda burst, odd: (*map(bytes, burst), *odd), bursts(), st.lists(frames(), max_size=2)),
    mtu=st.sampled_from((68, 576, 1280, 1500, 9000, 65521)),
    offload=st.booleans(),
    coalesce=st.booleans(),
    reads_every=st.sampled_from((1, 3, 1000)),
)


def _forwarded(_scope: None, cable: Cable) -> None:
    """Check that the accounts of a cable balance, and that its receiver gets what was sent."""
    with closing(Bench(limit=64)) as bench:
        source, target = bench.ports
        for port in bench.ports:
            port.limit = port.forwarding.link.read_limit((cable.mtu, cable.mtu))
            port.coalesce = cable.coalesce
        target.offload = cable.offload
        source.burst_bytes = BURST_BYTES if cable.offload else 0
        received: list[bytes] = []
        for number, frame in enumerate(cable.sent, 1):
            _send(bench, frame, received)
            if number % cable.reads_every == 0:
                bench.loop()
                received += bench.owners[1].receives()
        before = -1
        while len(received) > before:
            before = len(received)
            bench.loop()
            received += bench.owners[1].receives()
        bench.check_ledger()
        assert not bench.queue.length
        out, into = source.account.words, target.account.words
        assert out[OPACKETS] + _errors(out, OERRORS) == len(cable.sent)
        answers = bench.owners[0].receives()
        assert len(answers) == out[TOO_BIG]
        assert into[IPACKETS] == len(received) + into[COALESCED_DATAGRAMS] - into[COALESCED_SUPERFRAMES]
        _check_delivered(cable, received)


def _send(bench: Bench, frame: bytes, received: list[bytes]) -> None:
    """Send a frame, and let the receiver read while the ring is full."""
    while True:
        try:
            bench.owners[0].sends(frame)
        except BlockingIOError:
            bench.loop()
            received += bench.owners[1].receives()
        else:
            return


def _errors(words: Words, first: int) -> int:
    return sum(words[first + reason] for reason in range(len(REASONS)))


def _check_delivered(cable: Cable, received: list[bytes]) -> None:
    """Check that each frame that was received was sent, or is a part of one that was."""
    if cable.offload:
        possible = Counter(cable.sent)
        for frame in received:
            for part in [frame] if possible[frame] else segments(frame):
                assert possible[part], part[:60]
                possible[part] -= 1
        return
    possible = Counter(each[HEADER:] for frame in cable.sent for each in _segments(frame))
    for frame in received:
        assert not frame[0] & VIRTIO_NET_HDR_F_NEEDS_CSUM
        assert not frame[1]
        assert possible[frame[HEADER:]], frame[:60]
        possible[frame[HEADER:]] -= 1


def _segments(frame: bytes) -> list[bytes]:
    if len(frame) < HEADER:
        return []
    try:
        return segment(frame)
    except NotSegmentable:
        return []


def _segmented(_scope: None, frame: bytes) -> None:
    """Check that a frame is segmented without loss, or is refused."""
    if len(frame) < HEADER + 14:
        return  # refused as a runt before
    try:
        made = segment(memoryview(frame))
    except NotSegmentable:
        return
    gso_size = int.from_bytes(frame[4:6], "little") if frame[1] else len(frame)
    assert {each[:HEADER] for each in made} == {bytes(HEADER)}
    if len(made) == 1:
        assert len(made[0]) == len(frame)
        return
    headers = (sum(map(len, made)) - len(frame)) // (len(made) - 1)
    assert b"".join(each[headers:] for each in made) == frame[headers:]
    assert {len(each) - headers for each in made[:-1]} == {gso_size}
    assert 0 < len(made[-1]) - headers <= gso_size


@dataclass(frozen=True, slots=True)
class Reflected:
    """Packets for a loopback, and its options."""

    sent: tuple[bytes, ...]
    swap: bool = True


def _packet(frame: bytes) -> bytes:
    """Return a frame without its Ethernet header."""
    return frame[:HEADER] + frame[HEADER + 14 :] or b"\0"


@st.composite
def _quoting(draw: st.DrawFn) -> bytes:
    """Return an ICMP or ICMPv6 message that quotes a packet, or nearly one."""
    inner = _packet(draw(frames()))[HEADER : HEADER + draw(st.sampled_from((8, 20, 28, 40, 60, 548)))]
    kind = draw(st.sampled_from((0, 1, 2, 3, 4, 5, 8, 11, 12, 128, 137)))
    message = bytes((kind, 0, 1, 2, 0, 0, 0, 0)) + inner
    if draw(st.booleans()):
        addresses = bytes((10, 9, 0, draw(st.integers(1, 2)), 10, 9, 0, draw(st.integers(1, 2))))
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(message), 0, 0, 64, ICMP, 0) + addresses
    else:
        sides = [draw(st.sampled_from((0xAA, 0xBB))) for _ in range(2)]
        addresses = b"".join(b"\xfd" + bytes(14) + bytes((side,)) for side in sides)
        head = struct.pack(">IHBB", 6 << 28, len(message), ICMPV6, 64) + addresses
    packet = draw(mutated(head + message, _TOKENS))
    return draw(virtio_headers() | st.just(bytes(HEADER))) + packet


def _reflected(_scope: None, given: Reflected) -> None:
    """Check that each packet comes back, changed in its addresses only, or is counted as an error."""
    with closing(Loopback(swap=given.swap)) as bench:
        received: list[bytes] = []
        for packet in given.sent:
            received += _reflect(bench, bench.owner, packet)
        words = bench.words
        assert words[OPACKETS] + _errors(words, OERRORS) == len(given.sent)
        assert words[IPACKETS] + _errors(words, IERRORS) == words[OPACKETS]
        assert len(received) == words[IPACKETS]
        possible = Counter(map(_without_addresses, given.sent))
        for packet in received:
            assert possible[_without_addresses(packet)], packet[:80]
            possible[_without_addresses(packet)] -= 1
            assert given.swap or packet in given.sent


def _reflect(bench: Any, owner: Owner, packet: bytes) -> list[bytes]:  # noqa: ANN401
    owner.sends(packet)
    bench.forwarding.exchange(bench.port)
    return owner.receives()


def _without_addresses(packet: bytes) -> tuple[int, bytes]:
    """Return what is the same before and after: all but addresses, and of ICMP the length only."""
    version = packet[HEADER] >> 4 if len(packet) > HEADER else 0
    protocol, addresses = (9, slice(12, 20)) if version == 4 else (6, slice(8, 40))
    start = HEADER + addresses.start
    if version in (4, 6) and len(packet) > start and packet[HEADER + protocol] in (ICMP, ICMPV6):
        return len(packet), packet[: HEADER + 8]
    return len(packet), packet[:start] + packet[HEADER + addresses.stop :]


_WHOLE: Final = bytes(Offloaded(gso_size=65535))
_TOO_LONG: Final = (bytes((0, 1, 0, 0)) + _WHOLE[4:6] + bytes(4) + _WHOLE[HEADER:]).ljust(65620, b"z")
"""A super-frame with a whole checksum, of whose segments the first is longer than an IP packet can be."""

FRAMES: Final = Target(
    name="frames",
    inputs=_CABLES,
    holds=_forwarded,
    opened=nothing,
    found=(Cable((_TOO_LONG,), mtu=65521, offload=False),),
    examples=300,
    subjects=("epaird.dataplane",),
)
SEGMENTS: Final = Target(
    name="segments",
    inputs=frames(),
    holds=_segmented,
    opened=nothing,
    found=(_TOO_LONG,),
    examples=500,
    subjects=("epaird.dataplane.segmenting", "epaird.dataplane.superframe", "epaird.dataplane.headers"),
)
LOOPBACKS: Final = Target(
    name="loopbacks",
    inputs=st.builds(
        Reflected,
        sent=st.lists(frames().map(_packet) | _quoting(), min_size=1, max_size=6).map(tuple),
        swap=st.booleans(),
    ),
    holds=_reflected,
    opened=nothing,
    examples=300,
    subjects=("epaird.dataplane.reflector", "epaird.dataplane.quotes", "epaird.dataplane.links"),
)
