from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.names import mac, macpool
from epaird.names.cloners import SIDES
from epaird.names.macpool import MacPool, NoAddress

HOST = 0x0123_4567_89AB_CDEF


def test_the_first_pairs_are_freebsds() -> None:
    pool = MacPool(HOST)
    for index in (1, 2, 3):
        assert pool.derive() == {side: mac.derive(index, HOST, side) for side in SIDES}


@given(st.integers(0, 2**64 - 1))
def test_of_10000_creations_no_two_share_an_address(host_id: int) -> None:
    pool = MacPool(host_id)
    seen: set[str] = set()
    for _ in range(100):
        found = pool.derive()
        assert seen.isdisjoint(found.values())
        seen.update(found.values())


def test_10000_creations() -> None:
    pool = MacPool(HOST)
    seen = [address for _ in range(10_000) for address in pool.derive().values()]
    assert len(set(seen)) == 20_000
    assert pool.used >= 10_000


def test_an_index_is_not_used_again() -> None:
    pool = MacPool(HOST)
    first = pool.derive()
    for address in first.values():
        pool.release(address)
    assert pool.derive() != first
    assert MacPool(HOST, used=1).derive() != first


def test_an_index_whose_address_is_taken_is_skipped() -> None:
    pool = MacPool(HOST)
    pool.claim(mac.derive(1, HOST, "b"))
    pool.reserve(mac.derive(2, HOST, "a"))
    assert pool.derive() == {side: mac.derive(3, HOST, side) for side in SIDES}
    assert pool.used == 3


def test_an_address_is_claimed_once() -> None:
    pool = MacPool(HOST)
    pool.reserve("02:00:00:00:00:0a")
    pool.claim("02:00:00:00:00:0a")
    with pytest.raises(NoAddress, match="mac 02:00:00:00:00:0a is another interface's"):
        pool.claim("02:00:00:00:00:0a")
    pool.release("02:00:00:00:00:0a")
    pool.claim("02:00:00:00:00:0a")


def test_stable_addresses_follow_from_the_name() -> None:
    pool = MacPool(HOST)
    first, other = pool.stable("epair1"), pool.stable("epair2")
    assert set(first.values()).isdisjoint(other.values())
    for address in first.values():
        pool.release(address)
    pool.derive()
    assert pool.stable("epair1") == first
    assert MacPool(HOST).stable("epair1") == first
    assert MacPool(HOST + (1 << 40)).stable("epair1") != first


def test_a_stable_address_that_is_taken_is_skipped() -> None:
    pool = MacPool(HOST)
    first = pool.stable("epair1")
    assert set(pool.stable("epair1").values()).isdisjoint(first.values())


def test_no_address_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mac, "derive", lambda *arguments: "02:00:00:00:00:0" + arguments[-1])
    monkeypatch.setattr(macpool, "_ATTEMPTS", 8)
    pool = MacPool(HOST)
    pool.derive()
    with pytest.raises(NoAddress):
        pool.derive()
