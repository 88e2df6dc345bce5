from __future__ import annotations

import pytest

from epaird.config.settings import PairSettings
from epaird.impairment.effective import BUFFER, UnknownPreset, from_tables, impairment_of
from epaird.ipc.impairment import LineParameters

PAIR = PairSettings.model_validate(
    {
        "impair": {"delay": "100ms", "preset": "lte", "seed": 7},
        "a": {"impair": {"delay": "20ms", "buffer": "1mb"}},
    }
)
SETS = {"lte": {"rate": "10mbit", "limit": "64kb", "delay": "1ms"}}


def test_a_half_takes_precedence_over_its_pair_and_both_over_the_set() -> None:
    a, b = (impairment_of(PAIR, side, SETS) for side in ("a", "b"))
    assert a.keys == {"rate": "10mbit", "limit": "64kb", "delay": "20ms", "seed": 7, "buffer": "1mb"}
    assert b.keys == {"rate": "10mbit", "limit": "64kb", "delay": "100ms", "seed": 7}
    assert (a.preset, a.seed, a.buffer, a.trace) == ("lte", 7, 1 << 20, "")
    assert b.buffer == BUFFER
    assert a.phases == ()
    assert (a.parameters.delay_ns, a.parameters.rate, a.parameters.limit_bytes) == (20_000_000, 10**7, 65536)


def test_the_half_chooses_its_set() -> None:
    assert from_tables({"preset": "lte"}, {"preset": "geo"}, SETS).keys == {"delay": "239.6ms"}
    assert from_tables({"preset": "lte"}, {"preset": ""}, SETS).keys == {}
    assert from_tables({"preset": "geo"}, {}, {"geo": {"delay": "1s"}}).keys == {"delay": "1s"}
    with pytest.raises(UnknownPreset, match=r'^there is no set "x", the sets are lte, edge-down, edge-up, '):
        from_tables({"preset": "x"}, {}, SETS)


def test_an_impairment_that_does_nothing_needs_no_line() -> None:
    assert from_tables({}, {}, {}).nothing
    assert from_tables({"delay": "0s", "loss": "0%", "seed": 3, "buffer": "1mb"}, {}, {}).nothing
    assert from_tables({"rate": "1mbit"}, {"rate": "0bit"}, {}).parameters == LineParameters()
    assert not from_tables({"loss": "1%"}, {}, {}).nothing
    assert not from_tables({"trace": "x"}, {}, {}).nothing
    assert not from_tables({"schedule": [{"at": "1s", "loss": "100%"}]}, {}, {}).nothing
