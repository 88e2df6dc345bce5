from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from epaird.dataplane.burst import BURST_BYTES, BURST_FRAMES, SLOT, Burst, frames_at_once
from epaird.dataplane.frames import FRAME_MAX, HEADER, SHORTEST
from epaird.ipc.counters import OVERSIZE, RUNT
from epaird.kernel import abi
from tests.dataplane.conftest import Owner, frame, numbered

LIMIT = 1528


class Device:
    """Reads these frames, and then none."""

    def __init__(self, *frames: bytes) -> None:
        self._frames = iter(frames)

    def read(self, slot: memoryview) -> int | None:
        packet = next(self._frames, None)
        if packet is None:
            return None
        slot[: len(packet)] = packet
        return len(packet)


def read(burst: Burst, *frames: bytes, most: int = BURST_FRAMES) -> list[bytes]:
    """Read these frames; return those that are accepted."""
    burst.read(Device(*frames).read, LIMIT, most)
    return [bytes(each) for each in burst.frames(burst.accepted())]


@pytest.fixture
def burst() -> Burst:
    return Burst()


@pytest.fixture
def owner() -> Iterator[Owner]:
    owner = Owner()
    yield owner
    owner.close()


def test_a_slot_is_larger_than_any_frame_and_spreads_over_the_cache() -> None:
    assert SLOT > FRAME_MAX
    assert SLOT % 64 == 0
    assert SLOT % 4096 != 0


def test_a_new_burst_has_no_frames(burst: Burst) -> None:
    assert (burst.lengths, burst.verdicts, burst.exhausted) == ([], {}, False)


def test_frames_are_read_until_there_are_none(burst: Burst) -> None:
    sent = numbered(5)
    assert read(burst, *sent) == sent
    assert burst.exhausted
    assert burst.lengths == [len(each) for each in sent]
    assert burst.verdicts == {}


def test_a_burst_has_a_most_of_frames(burst: Burst) -> None:
    sent = numbered(BURST_FRAMES + 1)
    assert read(burst, *sent, most=3) == sent[:3]
    assert not burst.exhausted
    assert read(burst, *sent) == sent[:BURST_FRAMES]
    assert not burst.exhausted
    read(burst, frame())
    assert burst.exhausted
    read(burst, *sent)
    assert not burst.exhausted


def test_refused_frames_have_a_verdict_and_their_length(burst: Burst) -> None:
    runt, long, good = bytes(SHORTEST - 1), bytes(LIMIT + 1), frame()
    assert read(burst, runt, good, long, good) == [good, good]
    assert burst.verdicts == {0: RUNT, 2: OVERSIZE}
    assert burst.lengths == [len(runt), len(good), len(long), len(good)]
    assert list(burst.accepted()) == [1, 3]
    assert read(burst, good) == [good]
    assert burst.verdicts == {}, "verdicts are those of the last read"


def test_a_burst_ends_with_the_frame_that_makes_it_too_large(burst: Burst) -> None:
    """Only frames above the limit count: super-frames."""
    size = 60_000
    header = bytes((1, abi.VIRTIO_NET_HDR_GSO_TCPV4)) + bytes((66, 0)) + (1000).to_bytes(2, "little")
    superframe = header + (34).to_bytes(2, "little") + bytes(2) + bytes(size - HEADER)
    assert len(read(burst, *[superframe] * 10)) == BURST_BYTES // size + 1
    assert not burst.exhausted


@pytest.mark.parametrize("octets", [0, 1, 2999, 3000, 5999, 6000, 6001])
def test_a_burst_ends_once_its_long_frames_exceed_its_bytes(burst: Burst, octets: int) -> None:
    long = bytes(3000)
    burst.read(Device(*[long, frame()] * 10).read, LIMIT, BURST_FRAMES, lambda *_: None, octets)
    assert burst.lengths[-1] == len(long)
    together = sum(length for length in burst.lengths if length > LIMIT)
    assert together - len(long) <= octets < together


def test_only_frames_of_an_unusual_length_are_examined(burst: Burst) -> None:
    lengths = (SHORTEST - 1, SHORTEST, SHORTEST + 1, LIMIT - 1, LIMIT, LIMIT + 1)
    examined = []

    def examine(slot: memoryview, length: int, limit: int) -> None:
        assert (len(slot), limit) == (SLOT, LIMIT)
        examined.append(length)

    burst.read(Device(*map(bytes, lengths)).read, LIMIT, BURST_FRAMES, examine)
    assert examined == [SHORTEST - 1, LIMIT + 1]
    assert burst.lengths == list(lengths)


@pytest.mark.parametrize("place", [0, 1, 62, 63])
@pytest.mark.parametrize(
    ("flags", "gso_type", "unfinished"),
    [(1, 0, True), (0, 1, True), (3, 5, True), (0, 4, True), (2, 0, False), (0, 0, False)],
)
def test_a_burst_is_offloaded_if_one_frame_is(
    burst: Burst, place: int, flags: int, gso_type: int, unfinished: bool
) -> None:
    """An unfinished checksum is the flag of value 1; 2 is a note about a checksum that is whole."""
    frames = numbered(64)
    frames[place] = bytes((flags, gso_type)) + frames[place][2:]
    read(burst, *frames)
    assert burst.offloaded() is unfinished
    read(burst, *numbered(max(place, 1))[:place])
    assert burst.offloaded() is False, "frames of an earlier burst do not count"


def test_frames_read_before_a_device_has_gone_stay(burst: Burst) -> None:
    device = Device(*numbered(2))

    def gone(slot: memoryview) -> int:
        length = device.read(slot)
        if length is None:
            raise OSError(77, "File descriptor in bad state")
        return length

    with pytest.raises(OSError, match="bad state"):
        burst.read(gone, LIMIT, BURST_FRAMES)
    assert burst.frames(burst.accepted()) == numbered(2)


def test_frames_are_written_until_the_kernel_refuses_one(burst: Burst, owner: Owner) -> None:
    sent = numbered(4)
    read(burst, *sent)
    fd = owner.device.fileno()
    assert burst.write(fd) == 4
    assert owner.receives() == sent
    assert burst.write(fd, [2, 0]) == 2
    assert owner.receives() == [sent[2], sent[0]]
    owner.end.close()
    assert burst.write(fd) == burst.write(fd, [1]) == 0


def test_the_frame_that_is_refused_is_not_counted_as_written(burst: Burst) -> None:
    read(burst, *numbered(5, size=1000))
    reader, writer = os.pipe2(os.O_NONBLOCK)
    taken = 0
    while (written := burst.write(writer)) == 5:
        taken += written
    assert 0 <= written < 5
    arrived = 0
    while True:
        try:
            arrived += len(os.read(reader, 1 << 20))
        except BlockingIOError:
            break
    assert taken + written <= arrived // len(numbered(1, size=1000)[0]) <= taken + written + 1
    os.close(reader)
    os.close(writer)


def test_multicasts_are_counted_by_the_group_bit(burst: Burst) -> None:
    assert burst.multicasts() == 0
    group = frame(to=b"\x01\0\x5e\0\0\x01")
    read(burst, group, frame(), frame(to=b"\xff" * 6), *[frame()] * 61)
    assert burst.multicasts() == 2
    read(burst, frame(), group)
    assert burst.multicasts() == 1


def test_frames_at_once_fill_the_bytes_of_a_burst() -> None:
    assert frames_at_once(LIMIT) == BURST_FRAMES
    assert frames_at_once(65536) == 4
    assert frames_at_once(2 * BURST_BYTES) == 1
