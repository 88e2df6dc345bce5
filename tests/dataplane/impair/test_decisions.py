"""Decisions: the same for every division of the traffic, and after every change of process."""

from __future__ import annotations

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from epaird.dataplane.impair.decisions import Decisions, Fate, Hit
from epaird.ipc.impairment import LineParameters, LineSpec, LossChain

FULL: Final = 1538
"""Bytes on the wire of a full frame."""
MS: Final = 1_000_000
BUSY: Final = LineParameters(
    loss=LossChain(0.05, 0.4, 0.9, 0.01), ber=2e-6, duplicate=0.05, corrupt=0.03, reorder=0.04
)


def independent(probability: float) -> LossChain:
    return LossChain(probability, 1 - probability)


def fates(
    decisions: Decisions, sizes: list[int], parts: list[int], now_ns: int = 0
) -> list[tuple[int, Fate]]:
    """Judge segments in calls of so many, after asking whether they are quiet; return absolute numbers."""
    found = []
    done = 0
    for part in parts:
        first, burst = decisions.segment, sizes[done : done + part]
        done += part
        if not decisions.quiet(now_ns, len(burst), 8 * sum(burst)):
            found += [(first + hit.segment, hit.fate) for hit in decisions.judge(now_ns, burst)]
    assert done >= len(sizes)
    return found


def test_a_line_that_does_nothing_is_quiet() -> None:
    decisions = Decisions(LineSpec(seed=1))
    assert not decisions.judge(5, [FULL])
    assert decisions.quiet(5, 1 << 40, 1 << 54)
    assert decisions.segment == (1 << 40) + 1
    assert decisions.deadline(7, FULL) == 7
    assert not decisions.shaped
    assert decisions.piece_octets == 0


def test_a_seed_hits_exactly_these_segments() -> None:
    spec = LineSpec(seed=7, parameters=LineParameters(loss=independent(0.01), duplicate=0.001))
    assert Decisions(spec).judge(0, [FULL] * 460) == [
        Hit(68, Fate.LOSS),
        Hit(123, Fate.LOSS),
        Hit(203, Fate.LOSS),
        Hit(210, Fate.LOSS),
        Hit(261, Fate.LOSS),
        Hit(381, Fate.DUPLICATE),
        Hit(457, Fate.DUPLICATE),
    ]


@given(
    seed=st.integers(0, 2**64 - 1),
    sizes=st.lists(st.integers(84, 9000), min_size=1, max_size=300),
    parts=st.lists(st.integers(1, 64), max_size=300),
)
def test_the_division_of_the_traffic_changes_nothing(seed: int, sizes: list[int], parts: list[int]) -> None:
    spec = LineSpec(seed=seed, parameters=BUSY)
    whole = fates(Decisions(spec), sizes, [len(sizes)])
    assert fates(Decisions(spec), sizes, [1] * len(sizes)) == whole
    assert fates(Decisions(spec), sizes, [45] * 7) == whole
    assert fates(Decisions(spec), sizes, [*parts, len(sizes)]) == whole
    assert whole == sorted(whole)
