"""Carrier flaps: when they begin and end, and what a pair makes of them."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.control.interfaces.flapping import Outage, is_out, wait_of
from tests.control.interfaces.scene import make_scene
from tests.loop import on_loop
from tests.waiting import eventually

OUTAGES = st.lists(
    st.builds(Outage, st.integers(0, 50), st.integers(0, 20), st.one_of(st.just(0), st.integers(1, 60))),
    max_size=3,
)


@given(OUTAGES, st.integers(0, 200))
def test_nothing_changes_before_the_next_change(outages: list[Outage], elapsed: int) -> None:
    wait = wait_of(outages, elapsed)
    state = is_out(outages, elapsed)
    assert wait is None or wait > 0
    until = elapsed + (500 if wait is None else wait)
    assert all(is_out(outages, each) == state for each in range(elapsed, until))


def test_an_outage_that_repeats() -> None:
    outage = Outage(at=10, duration=2, every=60)
    assert [time for time in range(150) if outage.covers(time)] == [10, 11, 70, 71, 130, 131]
    assert [outage.next_change(time) for time in (0, 10, 12, 69, 70)] == [10, 12, 70, 70, 72]


@on_loop
async def test_carrier_follows_the_schedule_and_the_rule() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {})
        half = scene.registry.pairs.half("epair0a")
        assert half is not None
        assert half.carrier_on
        await scene.interfaces.change("epair0", {"schedule": [{"carrier": "off", "for": "20ms"}]})
        assert not half.carrier_on
        applied = half.pair.scheduled_ns
        await scene.interfaces.change("epair0a", {"mtu": 1400})
        assert half.pair.scheduled_ns == applied
        await eventually(lambda: half.carrier_on)
        await scene.interfaces.change("epair0", {"schedule": [{"carrier": "off"}]})
        assert not half.carrier_on
        await scene.interfaces.change("epair0", {"carrier": "off", "schedule": []})
        assert not half.carrier_on
        await scene.interfaces.change("epair0", {"carrier": "on"})
        assert half.carrier_on


@on_loop
async def test_an_outage_that_ends_between_two_readings_of_the_clock_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {})
        half = scene.registry.pairs.half("epair0a")
        assert half is not None
        readings = itertools.count(time.monotonic_ns(), 4_000_000)
        for duration in range(1, 30):
            with monkeypatch.context() as patch:
                patch.setattr(time, "monotonic_ns", lambda: next(readings))
                keys = {"schedule": [{"carrier": "off", "for": f"{duration}ms"}]}
                await scene.interfaces.change("epair0", keys)
                await eventually(lambda: half.carrier_on)


@on_loop
async def test_an_outage_that_begins_or_ends_while_a_pair_is_created_is_not_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the time of each reading of the clock, the pair is by its schedule once it is created."""
    async with make_scene() as scene:
        for changes in range(1, 40, 2):
            readings = itertools.count(time.monotonic_ns(), 4_000_000)
            for ends, outage in ((True, {"for": f"{changes}ms"}), (False, {"at": f"{changes}ms"})):
                with monkeypatch.context() as patch:
                    patch.setattr(time, "monotonic_ns", lambda: next(readings))  # noqa: B023
                    await scene.interfaces.create("epair0", {"schedule": [{"carrier": "off", **outage}]})
                    half = scene.registry.pairs.half("epair0a")
                    assert half is not None
                    await eventually(lambda: half.carrier_on is ends)  # noqa: B023
                await scene.interfaces.destroy("epair0")
