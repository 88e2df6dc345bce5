"""Rates, from two readings of the counters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from epaird.client.counters import InterfaceCounters

if TYPE_CHECKING:
    from epaird.client.statistics import Statistics

RATES: Final = ("ipackets", "ibytes", "opackets", "obytes", "oqdrops", "ierrors", "oerrors")
"""Counters that are shown as rates."""


def totals(stats: InterfaceCounters) -> dict[str, int]:
    """Return an interface's counters by name, with the errors of all reasons added up."""
    counts = vars(stats).items()
    return {name: sum(count.values()) if isinstance(count, dict) else count for name, count in counts}


def rates(before: Statistics, after: Statistics) -> dict[str, dict[str, float]]:
    """Return the counts per second of each interface, by its name, between two readings.

    The rates of an interface are 0 if it was created in between, also under the name of an earlier one."""
    seconds = after.time - before.time
    known = {each.device: totals(each.stats) for each in before.interfaces}
    found = {}
    for each in after.interfaces:
        now = totals(each.stats)
        earlier = known.get(each.device, now)
        if seconds <= 0 or any(now[name] < earlier[name] for name in RATES):
            earlier = now
        found[each.device] = {name: (now[name] - earlier[name]) / (seconds or 1) for name in RATES}
    return found
