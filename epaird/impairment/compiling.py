"""Keys of an impairment as the numbers that a worker has."""

from __future__ import annotations

from typing import Any, Final

from epaird.impairment.losses import chain_of
from epaird.impairment.tables import Keys, merged_phase
from epaird.impairment.units import bits_per_second, nanoseconds, octets, packets, probability
from epaird.ipc.impairment import LineParameters, Phase

_SHARES: Final = ("jitter_correlation", "duplicate", "corrupt", "reorder")


def line_parameters(keys: Keys) -> LineParameters:
    """Return the parameters of a line with these canonical keys."""
    numbers: dict[str, Any] = {name: probability(keys[name]) for name in _SHARES if name in keys}
    for name in ("delay", "jitter"):
        if name in keys:
            numbers[f"{name}_ns"] = nanoseconds(keys[name])
    if "distribution" in keys:
        numbers["distribution"] = keys["distribution"]
    if "ber" in keys:
        numbers["ber"] = float(keys["ber"])
    if "rate" in keys:
        numbers["rate"] = bits_per_second(keys["rate"])
    if "limit" in keys:
        segments = packets(keys["limit"])
        if segments is None:
            numbers["limit_bytes"] = octets(keys["limit"])
        else:
            numbers["limit_segments"] = segments
    numbers["codel"] = keys.get("queue") == "codel"
    numbers["ecn"] = keys.get("ecn", False)
    return LineParameters(loss=chain_of(keys), **numbers)


def phases_of(keys: Keys) -> tuple[Phase, ...]:
    """Return the schedule of a line with these canonical keys."""
    return tuple(
        Phase(
            nanoseconds(phase.get("at", "0s")),
            nanoseconds(phase.get("for", "0s")),
            nanoseconds(phase.get("every", "0s")),
            line_parameters(merged_phase(keys, phase)),
        )
        for phase in keys.get("schedule", ())
    )
