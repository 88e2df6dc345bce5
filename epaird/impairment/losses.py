"""Losses as a user writes them, and the Gilbert-Elliott chain that makes them.

The chain's share of losses is the one that was asked for, whatever the correlation or the length of runs:
with netem ``loss 10% 25%`` loses 1.8 %, here 10 %. For a share q, a correlation of neighbours rho has
p = q (1 - rho) and r = (1 - q) (1 - rho); runs of b losses on average have r = 1 / b and p = q r / (1 - q).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epaird.impairment.units import percentage, probability
from epaird.ipc.impairment import LossChain


def chain_of(keys: Mapping[str, Any]) -> LossChain:
    """Return the chain of the keys ``loss``, ``loss_correlation`` and ``loss_burst``.

    They must be attainable (:func:`unattainable`)."""
    loss = keys.get("loss", "0%")
    if isinstance(loss, Mapping):
        p = probability(loss["p"])
        r = probability(loss["r"]) if "r" in loss else 1 - p
        return LossChain(p, r, probability(loss.get("bad", "100%")), probability(loss.get("good", "0%")))
    share = probability(loss)
    if share == 0:
        return LossChain()
    if "loss_burst" in keys:
        r = 1 / float(keys["loss_burst"])
        return LossChain(share * r / (1 - share), r)
    apart = 1 - probability(keys.get("loss_correlation", "0%"))
    return LossChain(share * apart, (1 - share) * apart)


def unattainable(keys: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the key of losses that no chain makes, and one line about it; None if there is a chain."""
    loss = keys.get("loss", "0%")
    if isinstance(loss, Mapping):
        if probability(loss["p"]) == 0 and probability(loss.get("r", "100%")) == 0:
            return (
                "loss",
                "p and r are both 0%, so the state would never change: one of them must be above 0%",
            )
        return None
    share, burst = probability(loss), keys.get("loss_burst")
    if burst is None or share == 0:
        return None
    if share == 1:
        return "loss_burst", 'with loss = "100%" a run of losses never ends, leave loss_burst out'
    # p = q / (b (1 - q)) is a probability; the product is compared, so that 50 % in runs of 1 is exact.
    if share > float(burst) * (1 - share):
        least, most = share / (1 - share), percentage(float(burst) / (1 + float(burst)))
        return "loss_burst", (
            f"{burst:g} is too short for a loss of {loss}: the mean run is at least {least:.4g}, "
            f"or the loss at most {most}"
        )
    return None
