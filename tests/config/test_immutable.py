from __future__ import annotations

from epaird.config.immutable import IMMUTABLE, NEEDS_RESTART
from epaird.config.settings import Configuration, HalfSettings, LoopbackSettings, PairSettings


def test_every_key_is_one_of_an_interface() -> None:
    keys = {key for table in (PairSettings, HalfSettings, LoopbackSettings) for key in table.model_fields}
    assert IMMUTABLE.keys() <= keys
    assert all(fixed.reason for fixed in IMMUTABLE.values())


def test_every_key_that_needs_a_restart_is_one_of_the_daemon() -> None:
    for table, _, key in (place.partition(".") for place in NEEDS_RESTART):
        assert key in getattr(Configuration(), table).model_dump()
