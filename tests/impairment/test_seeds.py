from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from epaird.impairment.seeds import SEED_MAX, direction_seed


def test_the_numbers_are_those_of_splitmix64() -> None:
    """The first two numbers of the reference generator for the seed 1234567."""
    assert direction_seed(1234567, "a") == 6457827717110365317
    assert direction_seed(1234567, "b") == 3203168211198807973


@given(st.integers(0, SEED_MAX))
def test_each_direction_has_its_own(seed: int) -> None:
    a, b = direction_seed(seed, "a"), direction_seed(seed, "b")
    assert a != b
    assert 0 <= min(a, b) <= max(a, b) <= SEED_MAX
