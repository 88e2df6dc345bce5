"""The typed counters are those of the catalogue."""

from __future__ import annotations

from epaird.client.counters import InterfaceCounters
from epaird.ipc.counters import STATISTICS


def test_every_statistic_is_a_field() -> None:
    counters = vars(InterfaceCounters())
    assert counters.keys() == {each.name for each in STATISTICS}
    for each in STATISTICS:
        assert counters[each.name] == ({} if each.by_reason else 0)
