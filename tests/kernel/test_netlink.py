from __future__ import annotations

import contextlib
import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.kernel import abi
from epaird.kernel.errors import KernelError
from epaird.kernel.netlink import ATTRIBUTE, HEADER, LINK, RouteSocket, attribute, attributes, messages

KINDS = st.integers(0, abi.NLA_TYPE_MASK)


@given(st.lists(st.tuples(KINDS, st.binary(max_size=40))))
def test_attributes_are_read_as_they_were_written(written: list[tuple[int, bytes]]) -> None:
    buffer = bytearray(b"".join(attribute(kind, payload) for kind, payload in written))
    read = [(kind, bytes(buffer[start:end])) for kind, start, end in attributes(buffer, 0, len(buffer))]
    assert read == written


@given(st.binary(max_size=200))
def test_reading_ends_whatever_the_bytes_are(noise: bytes) -> None:
    buffer = bytearray(noise)
    assert len(list(attributes(buffer, 0, len(buffer)))) <= len(noise) / ATTRIBUTE.size
    assert len(list(messages(buffer, len(buffer)))) <= len(noise) / HEADER.size


def test_a_refusal_has_the_kernels_errno_and_the_socket_lives_on() -> None:
    with contextlib.closing(RouteSocket()) as route:
        nobody = LINK.pack(0, 0, 0x7FFFFFFF, 0, 0)
        with pytest.raises(KernelError, match="netlink: ") as refusal:
            list(route.request(abi.RTM_GETLINK, 0, nobody))
        assert refusal.value.errno == errno.ENODEV
        loopback = LINK.pack(0, 0, 1, 0, 0)
        assert [kind for kind, *_ in route.request(abi.RTM_GETLINK, 0, loopback)] == [abi.RTM_NEWLINK]


def test_many_requests_and_what_became_of_each() -> None:
    """More than the socket has room for answers to; the errors are where they belong."""
    there, nowhere = (LINK.pack(0, 0, index, 0, 0) for index in (1, 0x7FFFFFFF))
    wanted = [(abi.RTM_GETLINK, 0, nowhere if number % 3 else there) for number in range(1000)]
    with contextlib.closing(RouteSocket()) as route:
        for _ in range(2):
            outcomes = route.execute(wanted)
            assert outcomes == [errno.ENODEV if number % 3 else 0 for number in range(1000)]
        assert route.execute([]) == []
        assert [kind for kind, *_ in route.request(abi.RTM_GETLINK, 0, there)] == [abi.RTM_NEWLINK]
