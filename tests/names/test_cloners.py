from __future__ import annotations

import errno
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.names.cloners import (
    CLONERS,
    EPAIR,
    HIGHEST_UNIT,
    LO,
    SIDES,
    Cloner,
    Side,
    cloner_of,
    half_name,
    half_of,
    interface_of,
    order,
)
from epaird.names.grammar import InvalidName, check_device_name

ANY_CLONER = st.sampled_from(CLONERS)


@given(ANY_CLONER, st.integers(0, HIGHEST_UNIT))
def test_a_name_with_a_number_means_this_unit(cloner: Cloner, unit: int) -> None:
    assert cloner.unit(f"{cloner.name}{unit}") == unit
    assert cloner_of(f"{cloner.name}{unit}", [LO, EPAIR]) is cloner


@given(ANY_CLONER)
def test_the_name_of_a_kind_alone_means_any_unit(cloner: Cloner) -> None:
    assert cloner.unit(cloner.name) is None


@given(ANY_CLONER, st.sets(st.integers(0, 30)))
def test_the_lowest_free_unit(cloner: Cloner, taken: set[int]) -> None:
    lowest = cloner.lowest(taken)
    assert lowest not in taken
    assert set(range(lowest)) <= taken


@pytest.mark.parametrize(
    ("cloner", "name", "code"),
    [
        (EPAIR, "epair7a", errno.EINVAL),
        (EPAIR, "epair7c", errno.EINVAL),
        (EPAIR, "epair07", errno.EINVAL),
        (EPAIR, "epair00", errno.EINVAL),
        (EPAIR, "epaira", errno.EINVAL),
        (EPAIR, "epair-1", errno.EINVAL),
        (EPAIR, "epair1 ", errno.EINVAL),
        (EPAIR, "epair\n", errno.EINVAL),
        (EPAIR, "epair１", errno.EINVAL),
        (EPAIR, "epairs1", errno.EINVAL),
        (EPAIR, "EPAIR1", errno.EINVAL),
        (EPAIR, "lo1", errno.EINVAL),
        (EPAIR, "", errno.EINVAL),
        (EPAIR, "epair32768", errno.EINVAL),
        (EPAIR, "epair" + "1" * 9, errno.EINVAL),
        (EPAIR, "epair" + "1" * 10, errno.ENOSPC),
        (LO, "lo1a", errno.EINVAL),
        (LO, "lo01", errno.EINVAL),
        (LO, "lo32768", errno.EINVAL),
        (LO, "lo" + "1" * 13, errno.EINVAL),
        (LO, "lo" + "1" * 14, errno.ENOSPC),
    ],
)
def test_refused(cloner: Cloner, name: str, code: int) -> None:
    with pytest.raises(InvalidName) as refused:
        cloner.unit(name)
    assert refused.value.errno == code
    assert "\n" not in str(refused.value)


def test_the_longest_names() -> None:
    # Earlier versions created them, and they can still be destroyed.
    assert EPAIR.unit_of("epair" + "1" * 9) == 111111111
    assert LO.unit_of("lo" + "1" * 13) == 1111111111111
    assert [len(device) for device in EPAIR.devices(111111111)] == [15, 15]


@pytest.mark.parametrize("cloner", CLONERS)
def test_the_highest_unit(cloner: Cloner) -> None:
    highest = f"{cloner.name}{HIGHEST_UNIT}"
    assert cloner.unit(highest) == HIGHEST_UNIT
    assert cloner.lowest(range(HIGHEST_UNIT)) == HIGHEST_UNIT
    with pytest.raises(InvalidName, match=f"every {cloner.name} from 0 to 32767 exists already") as full:
        cloner.lowest(range(HIGHEST_UNIT + 1))
    assert full.value.errno == errno.ENOSPC
    with pytest.raises(InvalidName) as above:
        cloner.check(f"{cloner.name}32768")
    assert str(above.value) == f'"{cloner.name}32768" has a number above 32767, the highest that is allowed'


@given(st.lists(st.tuples(ANY_CLONER, st.integers(0, 40000), st.sampled_from(("", "a", "b")))))
def test_names_are_ordered_by_kind_number_and_side(parts: list[tuple[Cloner, int, str]]) -> None:
    names = [f"{cloner.name}{unit}{side}" for cloner, unit, side in parts]
    ordered = sorted((cloner.name, unit, side) for cloner, unit, side in parts)
    assert sorted(names, key=order) == ["".join(map(str, each)) for each in ordered]


def test_the_order_of_other_names() -> None:
    names = ["lo1", "eth0.7", "epair10b", "epair2", "", "epair2a"]
    assert sorted(names, key=order) == ["", "epair2", "epair2a", "epair10b", "eth0.7", "lo1"]
    kinds = ["epair", "epair0", "lo", "lo0", "lo1"]
    assert all(order(before) < order(after) for before, after in pairwise(kinds))


@given(st.text(max_size=20))
def test_any_text_is_a_unit_or_refused_with_a_reason(name: str) -> None:
    refusal = None
    try:
        cloner = cloner_of(name, [EPAIR, LO])
        unit = cloner.unit(name)
    except InvalidName as refused:
        refusal = refused
    else:
        assert name == (cloner.name if unit is None else f"{cloner.name}{unit}")
    if refusal is not None:
        assert refusal.errno in (errno.EINVAL, errno.ENOSPC)
        assert "\n" not in str(refusal)


@pytest.mark.parametrize("name", ["veth0", "", "0", "eth0", "lotus", "gre1"])
def test_foreign_names_have_no_cloner(name: str) -> None:
    with pytest.raises(InvalidName) as refused:
        cloner_of(name, [EPAIR, LO])
    assert refused.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("name", "interface"),
    [
        ("epair7", "epair7"),
        ("epair7a", "epair7"),
        ("lo1", "lo1"),
        ("lo1a", None),
        ("lo", None),
        ("eth0", None),
    ],
)
def test_the_interface_of_a_device(name: str, interface: str | None) -> None:
    found = interface_of(name)
    assert (found[1] if found is not None else None) == interface
    assert found is None or found[0] is cloner_of(name)


def test_devices() -> None:
    assert EPAIR.devices(7) == ("epair7a", "epair7b")
    assert LO.devices(1) == ("lo1",)
    assert LO.permanent == {0}


def test_a_loopback_has_no_half() -> None:
    for name, reason in (
        ("lo", '"lo" is not a loopback\'s name: that is lo and a number, as in "lo1"'),
        ("lo1a", '"lo1a" is not a loopback\'s name: that is lo and a number, as in "lo1"'),
        ("lo01", '"lo01" has a leading zero, write "lo1"'),
        ("lo12345678901234", '"lo12345678901234" is too long: a loopback\'s name has at most 15 characters'),
    ):
        with pytest.raises(InvalidName) as caught:
            LO.unit_of(name)
        assert str(caught.value) == reason


@given(st.integers(0, HIGHEST_UNIT))
def test_a_pair_and_its_number_name_each_other(unit: int) -> None:
    pair = EPAIR.interface(unit)
    assert pair == f"epair{unit}"
    assert EPAIR.unit_of(pair) == unit
    for side in SIDES:
        assert check_device_name(half_name(pair, side)) == f"epair{unit}{side}"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("epair07", '"epair07" has a leading zero, write "epair7"'),
        ("epair00", '"epair00" has a leading zero, write "epair0"'),
        ("epair7a", '"epair7a" is a half\'s name, its pair is "epair7"'),
        ("epair", '"epair" is not a pair\'s name: that is epair and a number, as in "epair0"'),
        ("lo1", '"lo1" is not a pair\'s name: that is epair and a number, as in "epair0"'),
        ("Epair1", '"Epair1" is not a pair\'s name: that is epair and a number, as in "epair0"'),
        ("epair-1", '"epair-1" is not a pair\'s name: that is epair and a number, as in "epair0"'),
        ("epair1\n", '"epair1\\n" is not a pair\'s name: that is epair and a number, as in "epair0"'),
        ("epair١", '"epair١" is not a pair\'s name: that is epair and a number, as in "epair0"'),
        ("epair7ab", '"epair7ab" is not a pair\'s name: that is epair and a number, as in "epair0"'),
    ],
)
def test_a_name_that_is_not_a_pairs_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(InvalidName) as caught:
        EPAIR.unit_of(name)
    assert str(caught.value) == reason
    assert caught.value.errno == errno.EINVAL


def test_the_halves_letter_must_fit() -> None:
    assert half_name("epair999999999", "a") == "epair999999999a"
    with pytest.raises(
        InvalidName, match=r"no room for its halves' letter: a pair's name has at most 14 characters$"
    ) as caught:
        EPAIR.interface(1_000_000_000)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(InvalidName, match="no room"):
        EPAIR.unit_of("epair" + "9" * 10_000)


def test_room_is_left_for_the_longest_suffix() -> None:
    cloner = Cloner("tee", "tee", ("", "abc"))
    assert cloner.unit_of("tee123456789") == 123_456_789
    with pytest.raises(InvalidName, match="at most 12 characters"):
        cloner.unit_of("tee1234567890")


@given(st.integers(0, 999_999_999), st.sampled_from(SIDES))
def test_a_half_is_split_into_pair_and_side(unit: int, side: Side) -> None:
    pair = f"epair{unit}"
    assert half_of(half_name(pair, side)) == (pair, side)
    assert half_name(pair, side) in EPAIR.devices_of(pair)


def test_only_a_pair_has_halves() -> None:
    for name in ("lo1", "epair0a", "epair00", "eth0", "epair1000000000"):
        with pytest.raises(InvalidName):
            half_name(name, "a")


@pytest.mark.parametrize("name", ["", "a", "epair0", "epair0c", "epair0ab", "epair00a", "epaira", "lo0a"])
def test_a_name_that_is_not_a_halfs_is_refused(name: str) -> None:
    with pytest.raises(InvalidName, match=r"is not a half's name, as in \"epair1b\"$") as caught:
        half_of(name)
    assert caught.value.errno == errno.EINVAL


def test_a_half_of_a_pair_whose_name_is_too_long() -> None:
    with pytest.raises(InvalidName, match="no room for its halves' letter") as caught:
        half_of("epair1000000000a")
    assert caught.value.errno == errno.ENOSPC
