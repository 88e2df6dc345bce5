from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.names.cloners import EPAIR, LO, Cloner, cloner_of
from epaird.names.grammar import InvalidName

CLONERS = st.sampled_from([EPAIR, LO])


@given(CLONERS, st.integers(0, 10**9 - 1))
def test_a_name_with_a_number_means_this_unit(cloner: Cloner, unit: int) -> None:
    assert cloner.unit(f"{cloner.name}{unit}") == unit
    assert cloner_of(f"{cloner.name}{unit}", [LO, EPAIR]) is cloner


@given(CLONERS)
def test_the_kinds_name_alone_means_any_unit(cloner: Cloner) -> None:
    assert cloner.unit(cloner.name) is None


@given(CLONERS, st.sets(st.integers(0, 30)))
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
        (EPAIR, "epair" + "1" * 10, errno.ENOSPC),
        (LO, "lo1a", errno.EINVAL),
        (LO, "lo01", errno.EINVAL),
        (LO, "lo" + "1" * 14, errno.ENOSPC),
    ],
)
def test_refused(cloner: Cloner, name: str, code: int) -> None:
    with pytest.raises(InvalidName) as refused:
        cloner.unit(name)
    assert refused.value.errno == code
    assert "\n" not in str(refused.value)


def test_the_longest_names() -> None:
    assert EPAIR.unit("epair" + "1" * 9) == 111111111
    assert LO.unit("lo" + "1" * 13) == 1111111111111
    assert [len(device) for device in EPAIR.devices(111111111)] == [15, 15]


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


def test_devices() -> None:
    assert EPAIR.devices(7) == ("epair7a", "epair7b")
    assert LO.devices(1) == ("lo1",)
    assert LO.permanent == {0}
