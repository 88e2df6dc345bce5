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


def test_a_refusal_has_the_kernels_errno_and_the_socket_remains_usable() -> None:
    with contextlib.closing(RouteSocket()) as route:
        missing = LINK.pack(0, 0, 0x7FFFFFFF, 0, 0)
        with pytest.raises(KernelError, match="netlink: ") as refusal:
            list(route.request(abi.RTM_GETLINK, 0, missing))
        assert refusal.value.errno == errno.ENODEV
        loopback = LINK.pack(0, 0, 1, 0, 0)
        assert [kind for kind, *_ in route.request(abi.RTM_GETLINK, 0, loopback)] == [abi.RTM_NEWLINK]


def test_many_requests_and_the_outcome_of_each() -> None:
    """More requests than the socket has room for answers; each error belongs to its request."""
    present, absent = (LINK.pack(0, 0, index, 0, 0) for index in (1, 0x7FFFFFFF))
    wanted = [(abi.RTM_GETLINK, 0, absent if number % 3 else present) for number in range(1000)]
    with contextlib.closing(RouteSocket()) as route:
        for _ in range(2):
            outcomes = route.execute(wanted)
            assert outcomes == [errno.ENODEV if number % 3 else 0 for number in range(1000)]
        assert route.execute([]) == []
        assert [kind for kind, *_ in route.request(abi.RTM_GETLINK, 0, present)] == [abi.RTM_NEWLINK]
