from __future__ import annotations

from epaird.client.counters import InterfaceCounters
from epaird.client.statistics import InterfaceStatistics, Statistics
from epaird.ctl.rates import RATES, rates, totals


def look(time: float, **packets: int) -> Statistics:
    """Return an answer to /v1/stats in which each interface has so many ipackets."""
    errors = {"runt": 0, "peer_down": 0}
    found = [
        InterfaceStatistics(name, name, "", InterfaceCounters(ipackets=count, ierrors=errors, oerrors=errors))
        for name, count in packets.items()
    ]
    return Statistics(time, found, [])


def test_rates_are_differences_over_the_daemons_own_time() -> None:
    found = rates(look(10.0, epair0a=100, lo0=7), look(12.5, epair0a=350, lo0=7))
    assert found["epair0a"]["ipackets"] == 100.0
    assert found["lo0"]["ipackets"] == 0.0


def test_an_interface_that_is_new_has_none_yet() -> None:
    assert rates(look(1.0), look(2.0, epair0a=1000))["epair0a"]["ipackets"] == 0.0


def test_another_one_of_the_same_name_has_none_yet() -> None:
    assert rates(look(1.0, epair0a=1000), look(2.0, epair0a=10))["epair0a"]["ipackets"] == 0.0


def test_one_that_is_gone_is_gone() -> None:
    assert rates(look(1.0, epair0a=1), look(2.0)) == {}


def test_no_time_at_all_is_no_rate() -> None:
    assert rates(look(1.0, epair0a=1), look(1.0, epair0a=9))["epair0a"]["ipackets"] == 0.0


def test_errors_are_totals_over_the_reasons() -> None:
    found = totals(InterfaceCounters(ipackets=3, oerrors={"runt": 1, "peer_down": 2}))
    assert {name: count for name, count in found.items() if count} == {"ipackets": 3, "oerrors": 3}


def test_every_rate_is_of_a_counter() -> None:
    assert set(RATES) <= totals(InterfaceCounters()).keys()
