"""What was changed at runtime stays, where the configuration says as before."""

from __future__ import annotations

from typing import Any

from epaird.config.reading import parse
from epaird.config.settings import Configuration
from epaird.config.wiring import peers
from epaird.plan.merge import kept


def said(**pairs: dict[str, Any]) -> Configuration:
    return parse({"epair": pairs})


def found(
    now: Configuration, before: Configuration, then: Configuration, plugs: dict[str, str | None] | None = None
) -> Configuration:
    return kept(now, peers(now) | (plugs or {}), {**before.epair, **(before.lo or {})}, then)


BEFORE = said(epair0={"a": {"mtu": 1500}}, epair1={})


def test_where_nothing_was_changed_the_configuration_holds() -> None:
    then = said(epair0={"a": {"mtu": 9000}}, epair2={})
    assert found(BEFORE, BEFORE, then) == then
    assert found(BEFORE, BEFORE, BEFORE) == BEFORE


def test_what_was_changed_stays() -> None:
    now = said(epair0={"a": {"mtu": 1500, "addresses": ["10.0.0.1/24"]}, "carrier": "off"}, epair1={})
    assert found(now, BEFORE, BEFORE) == now


def test_of_what_was_changed_at_both_ends_the_configuration_holds() -> None:
    now = said(epair0={"a": {"mtu": 1400, "txqueuelen": 7}, "coalesce": False}, epair1={})
    then = said(epair0={"a": {"mtu": 9000}, "carrier": "always"}, epair1={})
    wanted = said(
        epair0={"a": {"mtu": 9000, "txqueuelen": 7}, "coalesce": False, "carrier": "always"}, epair1={}
    )
    assert found(now, BEFORE, then) == wanted


def test_what_was_made_at_runtime_is_as_a_configuration_says_that_has_it_now() -> None:
    now = said(epair0={}, epair1={}, epair5={"a": {"mtu": 1400}})
    then = said(epair0={}, epair1={}, epair5={"a": {"mtu": 1300}})
    assert found(now, BEFORE, then) == then


def test_what_is_not_there_is_made_as_the_configuration_says() -> None:
    assert found(said(epair1={}), BEFORE, BEFORE, {}) == BEFORE


def test_loopbacks_keep_what_was_changed() -> None:
    before, now, then = (
        parse({"lo": {"lo1": each}})
        for each in ({"mtu": 1000}, {"mtu": 2000}, {"mtu": 1000, "addresses": ["10.9.9.1/24"]})
    )
    assert found(now, before, then) == parse({"lo": {"lo1": {"mtu": 2000, "addresses": ["10.9.9.1/24"]}}})
    assert found(said(), said(), then) == then


def test_halves_stay_plugged_as_they_are() -> None:
    plugs = {"epair0a": "epair1b", "epair1b": "epair0a", "epair0b": None, "epair1a": None}
    assert peers(found(BEFORE, BEFORE, BEFORE, plugs)) == plugs
    unplugged: dict[str, str | None] = {"epair0a": None, "epair0b": None}
    assert peers(found(BEFORE, BEFORE, BEFORE, unplugged)) == peers(BEFORE) | unplugged


def test_a_half_that_is_plugged_into_one_made_at_runtime_stays_so() -> None:
    plugs: dict[str, str | None] = {"epair0a": "epair9a", "epair0b": None}
    assert peers(found(BEFORE, BEFORE, BEFORE, plugs)) == peers(BEFORE) | plugs


def test_where_the_configuration_says_otherwise_halves_are_plugged_so() -> None:
    then = said(epair0={"a": {"peer": "epair1b"}}, epair1={})
    plugs: dict[str, str | None] = {"epair1a": None, "epair1b": None}
    wanted = {"epair0a": "epair1b", "epair1b": "epair0a", "epair0b": None, "epair1a": None}
    assert peers(found(BEFORE, BEFORE, then, plugs)) == wanted
