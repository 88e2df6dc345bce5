from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.impairment.expected import (
    added_round_trip,
    bandwidth_delay_product,
    described,
    mean_burst,
    mean_delay,
    mean_loss,
)
from epaird.ipc.impairment import LineParameters, LossChain

SHARE = st.floats(0.01, 0.99)


@given(SHARE, SHARE, SHARE, SHARE)
def test_losses_of_a_chain_agree_with_its_steps(p: float, r: float, bad: float, good: float) -> None:
    """The exact distribution is stepped: states with probabilities instead of a random state."""
    chain = LossChain(p, r, bad, good)
    state = 1.0
    for _ in range(2000):
        state = state * (1 - r) + (1 - state) * p
    lost = state * bad + (1 - state) * good
    kept_next = state * bad * (r * (1 - good) + (1 - r) * (1 - bad)) + (1 - state) * good * (
        p * (1 - bad) + (1 - p) * (1 - good)
    )
    assert math.isclose(mean_loss(chain), lost, rel_tol=1e-6)
    assert math.isclose(mean_burst(chain), lost / kept_next, rel_tol=1e-6)


def test_extremes_of_a_chain() -> None:
    assert (mean_loss(LossChain()), mean_burst(LossChain())) == (0, 0)
    everything = LossChain(1, 0)
    assert (mean_loss(everything), mean_burst(everything)) == (1, math.inf)
    assert mean_loss(LossChain(0, 0)) == 0


def test_what_delays_add() -> None:
    line = LineParameters(delay_ns=100_000_000)
    assert added_round_trip(line, line) == "adds 200ms to a round trip"
    assert added_round_trip(line, LineParameters()) == "adds 100ms to a round trip"
    assert added_round_trip(LineParameters(), LineParameters()) == ""


def test_what_a_delay_holds() -> None:
    assert bandwidth_delay_product(LineParameters(delay_ns=100_000_000, rate=10**10)) == 125_000_000
    assert bandwidth_delay_product(LineParameters(delay_ns=100_000_000)) == 0
    with_jitter = LineParameters(delay_ns=100_000_000, jitter_ns=100_000_000, rate=8000)
    assert bandwidth_delay_product(with_jitter) == 200


def test_the_mean_delay_is_above_that_asked_for_where_jitter_reaches_below_zero() -> None:
    assert mean_delay(LineParameters(delay_ns=10**8)) == 0.1
    assert mean_delay(LineParameters(delay_ns=10**8, jitter_ns=10**7)) == pytest.approx(0.1)
    half_normal = 0.001 / math.sqrt(math.tau)
    assert mean_delay(LineParameters(jitter_ns=10**6)) == pytest.approx(half_normal, rel=1e-3)


def test_parameters_in_words() -> None:
    assert list(described(LineParameters())) == []
    parameters = LineParameters(
        delay_ns=10**8, jitter_ns=10**6, loss=LossChain(0.01, 0.99), corrupt=0.001, ber=1e-9, rate=10**7
    )
    assert list(described(parameters)) == [
        "delay 100ms", "jitter 1ms", "loss 1%", "corrupt 0.1%", "ber 1e-09", "rate 10mbit",
    ]  # fmt: skip
