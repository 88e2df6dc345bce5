from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.names import mac, macpool
from epaird.names.cloners import SIDES, Side
from epaird.names.macpool import DeviceNumber, MacPool, NoAddress

HOST = 0x0123_4567_89AB_CDEF
HOME = 1
STABLE = {"a": "02:0c:d0:1d:a2:0a", "b": "02:0c:d0:1d:a2:0b"}
"""The addresses that epaird 0.1.0 gives to epair1 on this host."""


def first(pool: MacPool, index: int, namespace: int = HOME) -> dict[Side, str]:
    return pool.derive(DeviceNumber(namespace, index))


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(1, 2**31 - 1))
def test_an_address_is_freebsds_with_the_namespace_mixed_into_the_host_id(
    host_id: int, namespace: int, index: int
) -> None:
    mixed = mac.mixed(host_id, namespace)
    assert first(MacPool(host_id), index, namespace) == {
        side: mac.derive(index, mixed, side) for side in SIDES
    }


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 500)), unique=True))
def test_daemons_that_share_a_machine_share_no_address(numbers: list[tuple[int, int]]) -> None:
    # Every second one is another daemon's.
    pools = MacPool(HOST), MacPool(HOST)
    seen = [first(pools[at % 2], index, namespace)["a"] for at, (namespace, index) in enumerate(numbers)]
    assert len(set(seen)) == len(numbers)


def test_10000_creations() -> None:
    pool = MacPool(HOST)
    seen = [address for index in range(10_000) for address in first(pool, index).values()]
    assert len(set(seen)) == 20_000


def test_after_a_restart_the_addresses_are_others() -> None:
    before, after = MacPool(HOST), MacPool(HOST)
    assert first(before, 7) == first(after, 7)  # which the kernel does not give twice
    assert first(before, 7) != first(after, 7)
    assert before.derive(None) != after.derive(None)


def test_an_address_that_is_taken_is_not_given() -> None:
    pool = MacPool(HOST)
    usual = [MacPool(HOST).derive(DeviceNumber(HOME, index)) for index in (1, 2, 3)]
    pool.claim(usual[0]["b"])
    pool.reserve(usual[1]["a"])
    others = [pool.derive(DeviceNumber(HOME, index), {usual[2]["b"]}) for index in (1, 2, 3)]
    assert pool.used == 3
    seen = {address for both in (*usual, *others) for address in both.values()}
    assert len(seen) == 12
    assert first(pool, 4) == MacPool(HOST).derive(DeviceNumber(HOME, 4))
    assert pool.used == 3


def test_a_number_is_not_used_again() -> None:
    pool = MacPool(HOST)
    before = pool.derive(None)
    for address in before.values():
        pool.release(address)
    assert pool.derive(None) != before
    assert pool.used == 2
    assert MacPool(HOST, used=7).used == 7


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
    one, other = pool.stable("epair1"), pool.stable("epair2")
    assert set(one.values()).isdisjoint(other.values())
    for address in one.values():
        pool.release(address)
    first(pool, 1)
    assert pool.stable("epair1") == one
    assert MacPool(HOST).stable("epair1") == one
    assert MacPool(HOST + (1 << 40)).stable("epair1") != one


def test_stable_addresses_are_the_same_in_every_version() -> None:
    assert MacPool(HOST).stable("epair1") == STABLE


def test_a_stable_address_that_is_taken_is_skipped() -> None:
    pool = MacPool(HOST)
    one = pool.stable("epair1")
    another = pool.stable("epair1")
    assert set(another.values()).isdisjoint(one.values())
    assert another == MacPool(HOST + 1).stable("epair1"), "the next one is the same in every version"


def test_no_address_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mac, "derive", lambda *arguments: "02:00:00:00:00:0" + arguments[-1])
    monkeypatch.setattr(macpool, "_ATTEMPTS", 8)
    pool = MacPool(HOST)
    first(pool, 1)
    with pytest.raises(NoAddress):
        first(pool, 2)
