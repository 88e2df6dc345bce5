"""Hits: counts, runs and correlations by formula; exact positions; a state that goes on."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.dataplane.impair.hits import ChainHits, Hits
from epaird.dataplane.impair.streams import NEVER, Stream
from epaird.ipc.impairment import LossChain
from tests.dataplane.impair.oracles import SIGMAS, within

COUNT: Final = 400_000
EXACT: Final = [37, 39, 46, 48, 235, 270, 395]
EXACT_RUNS: Final = [34, 35, 79, 80, 81, 82]

probabilities = st.one_of(st.sampled_from([0.0, 1.0, 0.5]), st.floats(0, 1))
chains = st.builds(LossChain, probabilities, probabilities, probabilities, probabilities)


def chain_hits(chain: LossChain, seed: int = 1, start: int = 0, words: tuple[int, ...] = ()) -> ChainHits:
    return ChainHits(Stream(seed, 0), Stream(seed, 1), chain, start, words)


def correlated(loss: float, correlation: float) -> LossChain:
    return LossChain(loss * (1 - correlation), (1 - loss) * (1 - correlation))


@pytest.mark.parametrize("probability", [0.5, 0.01, 1e-3])
def test_independent_hits_are_as_many_as_asked_for(probability: float) -> None:
    places = Hits(Stream(5, 2), probability, 0).take(COUNT)
    assert within(len(places), COUNT, probability)
    neighbours = sum(second == first + 1 for first, second in pairwise(places))
    assert within(neighbours, COUNT, probability**2)


def test_never_and_always() -> None:
    assert Hits(Stream(5, 2), 0, 0).next == NEVER
    assert Hits(Stream(5, 2), 1, 3).take(6) == [3, 4, 5]
    assert chain_hits(LossChain()).next == NEVER
    assert chain_hits(LossChain(1, 0)).take(4) == [0, 1, 2, 3]
    assert chain_hits(LossChain(0, 0)).next == NEVER
    assert chain_hits(LossChain(0, 0, 1, 1)).take(2) == [0, 1]


def test_a_chain_that_alternates() -> None:
    places = chain_hits(LossChain(1, 1)).take(100)
    assert len(places) == 50
    assert {second - first for first, second in pairwise(places)} == {2}


def test_a_seed_hits_exactly_these_places() -> None:
    assert Hits(Stream(7, 3), 0.01, 0).take(500) == EXACT
    assert chain_hits(LossChain(0.02, 0.3), 7).take(150) == EXACT_RUNS


@pytest.mark.parametrize(
    "chain",
    [
        correlated(0.01, 0),
        correlated(0.01, 0.25),
        correlated(0.1, 0.25),
        correlated(0.3, 0.9),
        LossChain(0.02, 0.3),
        LossChain(0.02, 0.3, 0.7, 0.01),
        LossChain(0.6, 0.8, 0.9, 0.1),
    ],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_chain_has_its_mean_variance_and_correlation(chain: LossChain, seed: int) -> None:
    places = chain_hits(chain, seed).take(COUNT)
    bad = chain.p / (chain.p + chain.r)
    mean = bad * chain.bad + (1 - bad) * chain.good
    memory = 1 - chain.p - chain.r
    shared = bad * (1 - bad) * (chain.bad - chain.good) ** 2
    variance = mean * (1 - mean)
    spread = 1 + 2 * shared / variance * memory / (1 - memory)
    assert within(len(places), COUNT, mean, spread)

    hit = set(places)
    for lag in (1, 2, 5):
        both = sum(place + lag in hit for place in places)
        expected = mean**2 + shared * memory**lag
        assert abs(both - COUNT * expected) < SIGMAS * math.sqrt(4 * spread * COUNT * expected)

    block = 1000
    sums = [0] * (COUNT // block)
    for place in places:
        sums[place // block] += 1
    found = math.fsum((count - block * mean) ** 2 for count in sums) / len(sums)
    edges = 2 * shared * memory * (1 - memory**block) / (1 - memory) ** 2
    expected = block * variance * spread - edges
    assert abs(found / expected - 1) < SIGMAS * math.sqrt(2 / len(sums)) * 1.3


@pytest.mark.parametrize("burst", [1.5, 3, 20])
def test_runs_have_the_mean_length_that_was_asked_for(burst: float) -> None:
    loss = 0.02
    r = 1 / burst
    places = chain_hits(LossChain(loss * r / (1 - loss), r), 3).take(COUNT)
    runs = len(places) - sum(second == first + 1 for first, second in pairwise(places))
    assert abs(len(places) / runs - burst) < SIGMAS * math.sqrt(burst * (burst - 1) / runs)


def test_a_chain_that_seldom_hits_does_not_compute_for_long() -> None:
    hits = chain_hits(LossChain(0.5, 0.6, 1e-12, 0))
    assert hits.next < 1000
    assert not hits.take(1000)


@given(chains, st.integers(0, 2**64 - 1), st.lists(st.integers(0, 40), max_size=20))
def test_the_division_changes_nothing_and_a_successor_goes_on(
    chain: LossChain, seed: int, steps: list[int]
) -> None:
    whole = chain_hits(chain, seed)
    divided = chain_hits(chain, seed)
    found, stop = [], 0
    for step in steps:
        stop += step
        found += divided.take(stop)
        divided = chain_hits(chain, seed, stop, divided.words())
    assert found == whole.take(stop)
    assert divided.words() == whole.words()


@given(st.floats(0, 1), st.lists(st.integers(0, 40), max_size=20))
def test_a_successor_of_independent_hits_goes_on(probability: float, steps: list[int]) -> None:
    whole = Hits(Stream(1, 3), probability, 0)
    divided = Hits(Stream(1, 3), probability, 0)
    found, stop = [], 0
    for step in steps:
        stop += step
        found += divided.take(stop)
        divided = Hits(Stream(1, 3), probability, stop, divided.words())
    assert found == whole.take(stop)


def test_a_process_with_other_numbers_is_drawn_anew() -> None:
    old = Hits(Stream(1, 3), 0.0, 0)
    assert Hits(Stream(1, 3), 1.0, 9, old.words()).next == 9
    never = chain_hits(LossChain())
    assert chain_hits(LossChain(1, 0), 1, 9, never.words()).next == 9


def test_a_state_far_behind_is_not_made_up_for() -> None:
    """A worker that was taken over can leave any state; its successor would draw 2^60 places."""
    hits = Hits(Stream(1, 3), 0.5, 0)
    assert Hits(Stream(1, 3), 0.5, 1 << 60, hits.words()).next >= 1 << 60
    chain = chain_hits(LossChain(0.5, 0.4))
    assert chain_hits(LossChain(0.5, 0.4), 1, 1 << 60, chain.words()).next >= 1 << 60
