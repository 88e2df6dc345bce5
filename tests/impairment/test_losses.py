from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.impairment.expected import mean_burst, mean_loss
from epaird.impairment.losses import chain_of, unattainable
from epaird.ipc.impairment import LossChain

PERCENT = st.integers(1, 9999).map(lambda hundredths: f"{hundredths / 100:g}%")


@given(PERCENT, st.integers(0, 99))
def test_a_correlation_leaves_the_share_as_it_is(loss: str, correlation: int) -> None:
    chain = chain_of({"loss": loss, "loss_correlation": f"{correlation}%"})
    assert math.isclose(mean_loss(chain), float(loss[:-1]) / 100)
    assert math.isclose(1 - chain.p - chain.r, correlation / 100, abs_tol=1e-9)


@given(PERCENT, st.floats(1, 1000))
def test_runs_have_their_mean_length(loss: str, burst: float) -> None:
    keys = {"loss": loss, "loss_burst": burst}
    chain = None if unattainable(keys) else chain_of(keys)
    share = float(loss[:-1]) / 100
    assert (chain is not None) == (share <= burst * (1 - share))
    if chain is not None:
        assert chain.p <= 1 + 1e-12
        assert math.isclose(mean_loss(chain), share)
        assert math.isclose(mean_burst(chain), burst)


@pytest.mark.parametrize(
    ("keys", "chain"),
    [
        ({}, LossChain()),
        ({"loss": "0%", "loss_burst": 3}, LossChain()),
        ({"loss": "25%"}, LossChain(0.25, 0.75)),
        ({"loss": "100%"}, LossChain(1.0, 0.0)),
        ({"loss": "50%", "loss_burst": 1}, LossChain(1.0, 1.0)),
        ({"loss": "50%", "loss_correlation": "50%"}, LossChain(0.25, 0.25)),
        ({"loss": {"p": "25%"}}, LossChain(0.25, 0.75)),
        ({"loss": {"p": "1%", "r": "30%", "bad": "50%", "good": "1%"}}, LossChain(0.01, 0.3, 0.5, 0.01)),
    ],
)
def test_chains(keys: dict[str, Any], chain: LossChain) -> None:
    assert unattainable(keys) is None
    assert chain_of(keys) == chain


@pytest.mark.parametrize(
    ("keys", "key", "message"),
    [
        (
            {"loss": "60%", "loss_burst": 1},
            "loss_burst",
            "1 is too short for a loss of 60%: the mean run is at least 1.5, or the loss at most 50%",
        ),
        (
            {"loss": "100%", "loss_burst": 3},
            "loss_burst",
            'with loss = "100%" a run of losses never ends, leave loss_burst out',
        ),
        (
            {"loss": {"p": "0%", "r": "0%"}},
            "loss",
            "p and r are both 0%, so the state would never change: one of them must be above 0%",
        ),
    ],
)
def test_what_no_chain_makes(keys: dict[str, Any], key: str, message: str) -> None:
    assert unattainable(keys) == (key, message)
