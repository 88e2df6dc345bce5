"""The headers of UDP datagrams, against datagrams that are made field by field."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.dataplane.udpheader import IPV4, IPV6, UdpHeaders
from tests.dataplane.datagrams import Datagram, segments

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
    covered = {offset for word in words for offset in range(word, word + 8)}
    assert covered == set(range(headers.length))
