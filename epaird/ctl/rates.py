"""What flows, from two looks at the counters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

RATES: Final = ("ipackets", "ibytes", "opackets", "obytes", "oqdrops", "ierrors", "oerrors")


def totals(stats: Mapping[str, Any]) -> dict[str, int]:
    """An interface's counters, with the errors of every reason added up."""
    return {name: sum(count.values()) if isinstance(count, dict) else count for name, count in stats.items()}


def rates(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Counts per second of each interface, by name, between two answers to ``/v1/stats``.

    An interface that was not there before has none yet, as has another one of the same name."""
    seconds = after["time"] - before["time"]
    known = {each["device"]: totals(each["stats"]) for each in before["interfaces"]}
    found = {}
    for each in after["interfaces"]:
        now = totals(each["stats"])
        then = known.get(each["device"], now)
        if seconds <= 0 or any(now[name] < then[name] for name in RATES):
            then = now
        found[each["device"]] = {name: (now[name] - then[name]) / (seconds or 1) for name in RATES}
    return found
