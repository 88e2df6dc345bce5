"""The headers of UDP datagrams, against datagrams that are made field by field."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.dataplane.udpheader import IPV4, IPV6, UdpHeaders
from tests.dataplane.datagrams import Datagram, folded, segments

VERSIONS = pytest.mark.parametrize(("headers", "version"), [(IPV4, 4), (IPV6, 6)], ids=["IPv4", "IPv6"])


def head(headers: UdpHeaders, datagram: Datagram) -> memoryview:
    return memoryview(bytes(datagram))[: headers.length]


def leads(headers: UdpHeaders, datagram: Datagram) -> bool:
    return headers.leader(head(headers, datagram), len(bytes(datagram))) is not None


@VERSIONS
def test_a_datagram_as_the_kernel_sends_it_may_lead(headers: UdpHeaders, version: int) -> None:
    assert leads(headers, Datagram(version=version))
    assert bytes(Datagram(version=version))[:10] == headers.lone


@VERSIONS
@pytest.mark.parametrize(
    "oddity",
    [
        {"tag": bytes.fromhex("81000007")},
        {"extension": bytes.fromhex("1100010400000000")},
        {"padding": b"\0"},
        {"payload": b""},
        {"udp_more": 1},
        {"ip_more": -1},
        {"protocol": 136},
        {"checksum_xor": 0x0100},
        {"checksum": 0},
        {"flags": 0},
        {"csum_offset": 16},
        {"hdr_len": 42},
    ],
)
def test_an_odd_datagram_may_not_lead(headers: UdpHeaders, version: int, oddity: dict[str, Any]) -> None:
    assert not leads(headers, Datagram(version=version).but(**oddity))


@pytest.mark.parametrize("oddity", [{"fragment": 0x2000}, {"header_checksum_xor": 1}, {"first": 0x46}])
def test_an_odd_ipv4_header_may_not_lead(oddity: dict[str, Any]) -> None:
    assert not leads(IPV4, Datagram().but(**oddity))


@VERSIONS
def test_no_bit_but_those_that_may_vary_can_be_flipped(headers: UdpHeaders, version: int) -> None:
    """Addresses of Ethernet and ports may be any; so may IPv6's traffic class, flow label and hop limit,
    which no checksum covers."""
    datagram = bytes(Datagram(version=version))
    ports = range(headers.length - 8, headers.length - 4)
    free = {*range(10, 22), *ports} | ({25, 26, 27, 31} if version == 6 else set())
    for at in range(headers.length):
        for bit in range(8):
            flipped = bytearray(datagram)
            flipped[at] ^= 1 << bit
            may = at in free or ((version, at) == (6, 24) and bit < 4)
            found = headers.leader(memoryview(flipped)[: headers.length], len(flipped))
            assert (found is not None) == may, (at, bit)


@pytest.mark.parametrize("fragment", [0, 0x4000, 0x0001, 0x1FFF, 0x2000, 0x6000, 0x8000, 0xC000])
def test_a_datagram_may_lead_if_it_is_whole(fragment: int) -> None:
    """With the flag against fragmentation or without."""
    assert leads(IPV4, Datagram(fragment=fragment)) == (fragment in (0, 0x4000))


@VERSIONS
@pytest.mark.parametrize("protocol", [0, 1, 6, 16, 17, 18, 58, 136, 255])
def test_only_udp_may_lead(headers: UdpHeaders, version: int, protocol: int) -> None:
    assert leads(headers, Datagram(version=version, protocol=protocol)) == (protocol == 17)


@VERSIONS
@pytest.mark.parametrize("first", [0, 3, 5, 7, 15, 0x35, 0x44, 0x46, 0x55])
def test_only_a_header_of_the_version_without_options_may_lead(
    headers: UdpHeaders, version: int, first: int
) -> None:
    """The checksum of the header is right for it."""
    if version == 4 or first < 16:
        assert not leads(headers, Datagram(version=version, first=first))


@VERSIONS
@pytest.mark.parametrize("size", [0, 1, 2, 1472])
def test_a_datagram_with_payload_may_lead(headers: UdpHeaders, version: int, size: int) -> None:
    assert leads(headers, Datagram(bytes(size), version)) == (size > 0)
    assert leads(headers, Datagram(bytes(size + 1), version, tos=0xFC, ttl=255, label=0xFFFFF))


def test_a_header_checksum_is_zero_in_one_way() -> None:
    """The ones' complement has two zeros; the kernel writes one of them."""
    (checksum,) = struct.unpack_from(">H", bytes(Datagram(number=0)), 34)
    datagram = Datagram(number=checksum)
    assert bytes(datagram)[34:36] == bytes(2)
    fields = IPV4.leader(head(IPV4, datagram), len(bytes(datagram)))
    assert fields is not None
    assert IPV4.countable(fields) == 1
    assert not leads(IPV4, datagram.but(header_checksum_xor=0xFFFF))


@VERSIONS
def test_an_unfinished_checksum_is_the_sum_of_the_pseudo_header(headers: UdpHeaders, version: int) -> None:
    for size in range(1, 1400, 7):
        datagram = Datagram(bytes(size), version)
        assert leads(headers, datagram), size
        assert not leads(headers, datagram.but(checksum_xor=1)), size


@VERSIONS
def test_the_largest_payload_fills_an_ip_packet(headers: UdpHeaders, version: int) -> None:
    """The length of IPv4 includes its header."""
    assert headers.largest == 65535 - 8 - (20 if version == 4 else 0)


@VERSIONS
def test_a_flow_is_told_by_the_end_of_its_destination_and_its_ports(
    headers: UdpHeaders, version: int
) -> None:
    datagram = Datagram(version=version, flow=5)
    found = bytes(datagram)[headers.flow_word : headers.flow_word + 8]
    assert found == datagram.addresses[-4:] + struct.pack(">HH", 1005, 9999)


@VERSIONS
@pytest.mark.parametrize("segment", [1, 1400, 65535])
def test_the_virtio_net_hdr_of_a_super_frame(headers: UdpHeaders, version: int, segment: int) -> None:
    ip = 20 if version == 4 else 40
    assert struct.unpack("<BBHHHH", headers.gso(segment)) == (1, 5, 14 + ip + 8, segment, 14 + ip, 6)
    assert struct.unpack("<BBHHHH", headers.lone) == (1, 0, 0, 0, 14 + ip, 6)


class Far(Datagram):
    """A datagram between addresses whose sum is large."""

    @property
    def addresses(self) -> bytes:
        return bytes((172, 31, 255, 254, 100, 127, 255, 253)) if self.version == 4 else bytes(range(200, 232))


@VERSIONS
def test_an_unfinished_checksum_wraps_as_a_ones_complement_sum(headers: UdpHeaders, version: int) -> None:
    datagram = Far(bytes(1000), version)
    fields = headers.leader(head(headers, datagram), len(bytes(datagram)))
    assert fields is not None
    start = headers.length - 8
    for more in range(0, 60_000, 1000):
        written = headers.written(fields, headers.lone, 0, more)
        partial = folded(datagram.addresses + struct.pack(">HH", 17, 1008 + more))
        assert written[start + 4 :] == struct.pack(">HH", 1008 + more, partial)
    lowest = 0xFFFF - int.from_bytes(bytes(datagram)[start + 6 : start + 8])
    for more in range(lowest - 2, lowest + 3):
        if more > 0:
            written = headers.written(fields, headers.lone, 0, more)
            partial = folded(datagram.addresses + struct.pack(">HH", 17, 1008 + more))
            assert written[start + 6 :] == struct.pack(">H", partial)


def test_ipv6_has_nothing_that_counts() -> None:
    """So any number of datagrams that a burst has may follow each other."""
    assert IPV6.counting_word is None
    assert IPV6.step == 0
    assert IPV6.countable(()) >= 64


@VERSIONS
@given(number=st.integers(0, 65400), after=st.integers(1, 60), size=st.integers(1, 1400))
def test_a_follower_differs_by_the_step_until_a_field_wraps(
    headers: UdpHeaders, version: int, number: int, after: int, size: int
) -> None:
    """``countable`` keeps its promise: the headers written for a follower are its own."""
    payload = bytes(size)
    first = Datagram(payload, version, number=number)
    fields = headers.leader(head(headers, first), len(bytes(first)))
    assert fields is not None
    follower = head(headers, Datagram(payload, version, number=number + after))
    if after < headers.countable(fields):
        difference = int.from_bytes(follower) - int.from_bytes(head(headers, first))
        assert difference == after * headers.step
        assert headers.written(fields, headers.lone, after, 0) == follower


@VERSIONS
@given(number=st.integers(0, 65000), count=st.integers(2, 40), size=st.integers(1, 1400))
def test_the_headers_of_a_super_frame_are_right(
    headers: UdpHeaders, version: int, number: int, count: int, size: int
) -> None:
    frames = [bytes(Datagram(bytes((i,)) * size, version, number=number + i)) for i in range(count)]
    fields = headers.leader(memoryview(frames[0])[: headers.length], len(frames[0]))
    assert fields is not None
    if count > headers.countable(fields) or count * size > headers.largest:
        return
    whole = headers.written(fields, headers.gso(size), 0, (count - 1) * size)
    assert segments(whole + b"".join(frame[headers.length :] for frame in frames)) == frames


def test_countable_ends_where_identification_or_checksum_wrap() -> None:
    def countable(number: int) -> int:
        datagram = Datagram(number=number)
        fields = IPV4.leader(head(IPV4, datagram), len(bytes(datagram)))
        assert fields is not None
        return IPV4.countable(fields)

    assert countable(65535) == 1
    assert countable(65530) == 6
    (checksum,) = struct.unpack_from(">H", bytes(Datagram(number=100)), 34)
    assert countable(100) == 1 + min(65435, checksum)


@VERSIONS
def test_the_words_cover_the_headers(headers: UdpHeaders, version: int) -> None:
    """Every byte of the headers is in a constant word or in the counting word."""
    words = [*headers.constant_words, *([] if headers.counting_word is None else [headers.counting_word])]
    covered = [offset for word in words for offset in range(word, word + 8)]
    assert set(covered) == set(range(headers.length))
    if headers.counting_word is not None:
        assert all(covered.count(at) == 1 for at in range(headers.counting_word, headers.counting_word + 8))
