"""What an impairment is expected to do, by formula: for the command line, ``check`` and dashboards."""

from __future__ import annotations

import math
from collections.abc import Iterator

from epaird.dataplane.impair.pathdelay import expected_delay
from epaird.impairment.units import duration, percentage, rate
from epaird.ipc.impairment import LineParameters, LossChain


def mean_delay(parameters: LineParameters) -> float:
    """Return the mean one-way delay in seconds: above ``delay`` where the jitter reaches below zero."""
    return expected_delay(parameters) / 1e9


def mean_loss(chain: LossChain) -> float:
    """Return the share of segments that a chain loses in the long run."""
    bad = _bad(chain)
    return bad * chain.bad + (1 - bad) * chain.good


def mean_burst(chain: LossChain) -> float:
    """Return the mean length of a run of losses: 0 without losses, infinite where every segment is lost.

    It is the share of losses divided by that of segments that are lost while the next one is not."""
    loss = mean_loss(chain)
    if loss == 0:
        return 0.0
    bad = _bad(chain)
    kept_after_bad = chain.r * (1 - chain.good) + (1 - chain.r) * (1 - chain.bad)
    kept_after_good = chain.p * (1 - chain.bad) + (1 - chain.p) * (1 - chain.good)
    ends = bad * chain.bad * kept_after_bad + (1 - bad) * chain.good * kept_after_good
    return loss / ends if ends > 0 else math.inf


def bandwidth_delay_product(parameters: LineParameters) -> int:
    """Return the bytes that delay and jitter hold at the full rate; 0 without a rate."""
    delay_ns = parameters.delay_ns + (parameters.jitter_ns if parameters.delay_ns else 0)
    return parameters.rate * delay_ns // (8 * 10**9)


def added_round_trip(one: LineParameters, other: LineParameters) -> str:
    """Return what the delays of both directions add to a round trip: ``adds 200ms to a round trip``.

    Empty if neither delays."""
    total = one.delay_ns + other.delay_ns
    return f"adds {duration(total)} to a round trip" if total else ""


def described(parameters: LineParameters) -> Iterator[str]:
    """Yield in words what parameters do: ``delay 100ms``, ``loss 1%``."""
    for key, nanoseconds in (("delay", parameters.delay_ns), ("jitter", parameters.jitter_ns)):
        if nanoseconds:
            yield f"{key} {duration(nanoseconds)}"
    for key, share in (
        ("loss", mean_loss(parameters.loss)),
        ("duplicate", parameters.duplicate),
        ("corrupt", parameters.corrupt),
        ("reorder", parameters.reorder),
    ):
        if share:
            yield f"{key} {percentage(share)}"
    if parameters.ber:
        yield f"ber {parameters.ber:g}"
    if parameters.rate:
        yield f"rate {rate(parameters.rate)}"


def _bad(chain: LossChain) -> float:
    """Return the share of time in the bad state; a chain that never changes stays in the good one."""
    total = chain.p + chain.r
    return chain.p / total if total else 0.0
