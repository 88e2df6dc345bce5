"""Changes made at runtime stay where the configuration has not changed."""

from __future__ import annotations

from typing import Any

from epaird.config.reading import parse
from epaird.config.settings import Configuration
from epaird.config.wiring import peers
from epaird.plan.merge import merged, without


def configured(**pairs: dict[str, Any]) -> Configuration:
    return parse({"epair": pairs})


def found(
    now: Configuration, before: Configuration, then: Configuration, plugs: dict[str, str | None] | None = None
) -> Configuration:
    return merged(now, peers(now) | (plugs or {}), {**before.epair, **(before.lo or {})}, then)


BEFORE = configured(epair0={"a": {"mtu": 1500}}, epair1={})


def test_without_changes_at_runtime_the_configuration_holds() -> None:
    then = configured(epair0={"a": {"mtu": 9000}}, epair2={})
    assert found(BEFORE, BEFORE, then) == then
    assert found(BEFORE, BEFORE, BEFORE) == BEFORE


def test_a_change_at_runtime_stays() -> None:
    now = configured(epair0={"a": {"mtu": 1500, "addresses": ["10.0.0.1/24"]}, "carrier": "off"}, epair1={})
    assert found(now, BEFORE, BEFORE) == now


def test_a_key_that_was_changed_in_both_follows_the_configuration() -> None:
    now = configured(epair0={"a": {"mtu": 1400, "txqueuelen": 7}, "coalesce": False}, epair1={})
    then = configured(epair0={"a": {"mtu": 9000}, "carrier": "always"}, epair1={})
    wanted = configured(
        epair0={"a": {"mtu": 9000, "txqueuelen": 7}, "coalesce": False, "carrier": "always"}, epair1={}
    )
    assert found(now, BEFORE, then) == wanted


def test_an_interface_created_at_runtime_follows_a_configuration_that_has_it_now() -> None:
    now = configured(epair0={}, epair1={}, epair5={"a": {"mtu": 1400}})
    then = configured(epair0={}, epair1={}, epair5={"a": {"mtu": 1300}})
    assert found(now, BEFORE, then) == then


def test_a_missing_interface_is_created_as_configured() -> None:
    assert found(configured(epair1={}), BEFORE, BEFORE, {}) == BEFORE


def test_loopbacks_keep_changes_made_at_runtime() -> None:
    before, now, then = (
        parse({"lo": {"lo1": each}})
        for each in ({"mtu": 1000}, {"mtu": 2000}, {"mtu": 1000, "addresses": ["10.9.9.1/24"]})
    )
    assert found(now, before, then) == parse({"lo": {"lo1": {"mtu": 2000, "addresses": ["10.9.9.1/24"]}}})
    assert found(configured(), configured(), then) == then


def test_halves_keep_their_peers() -> None:
    plugs = {"epair0a": "epair1b", "epair1b": "epair0a", "epair0b": None, "epair1a": None}
    assert peers(found(BEFORE, BEFORE, BEFORE, plugs)) == plugs
    unplugged: dict[str, str | None] = {"epair0a": None, "epair0b": None}
    assert peers(found(BEFORE, BEFORE, BEFORE, unplugged)) == peers(BEFORE) | unplugged


def test_a_half_keeps_a_peer_that_was_created_at_runtime() -> None:
    plugs: dict[str, str | None] = {"epair0a": "epair9a", "epair0b": None}
    assert peers(found(BEFORE, BEFORE, BEFORE, plugs)) == peers(BEFORE) | plugs


def test_halves_get_the_peers_of_a_changed_configuration() -> None:
    then = configured(epair0={"a": {"peer": "epair1b"}}, epair1={})
    plugs: dict[str, str | None] = {"epair1a": None, "epair1b": None}
    wanted = {"epair0a": "epair1b", "epair1b": "epair0a", "epair0b": None, "epair1a": None}
    assert peers(found(BEFORE, BEFORE, then, plugs)) == wanted


def test_a_pair_that_is_created_again_gets_its_configured_peer_back() -> None:
    """The half that was plugged into that peer meanwhile is left without one."""
    then = configured(epair0={"a": {"peer": "epair1a"}}, epair1={}, epair2={})
    now = configured(epair1={}, epair2={"a": {"peer": "epair1a"}})
    assert peers(found(now, then, then)) == {
        "epair0a": "epair1a",
        "epair1a": "epair0a",
        "epair0b": None,
        "epair1b": None,
        "epair2a": None,
        "epair2b": None,
    }


def test_what_a_request_has_destroyed_is_left_out_and_nothing_is_plugged_into_it() -> None:
    configuration = parse(
        {
            "epair": {"epair0": {}, "epair1": {"a": {"peer": "epair0b"}, "b": {"mtu": 1400}}},
            "lo": {"lo1": {}, "lo2": {}},
        }
    )
    found = without(configuration, {"epair0", "lo2", "epair9"})
    assert list(found.settings_by_name()) == ["lo0", "lo1", "epair1"]
    assert (found.epair["epair1"].a.peer, found.epair["epair1"].b.mtu) == ("", 1400)
    assert without(configuration, ()) == configuration


def test_keys_of_an_impairment_that_were_changed_at_runtime_stay() -> None:
    before = configured(epair0={"impair": {"delay": "1ms", "loss": {"p": "1%"}}})
    now = configured(epair0={"impair": {"delay": "1ms", "loss": "2%"}, "a": {"impair": {"rate": "1mbit"}}})
    then = configured(epair0={"impair": {"delay": "3ms", "loss": {"p": "1%"}}})
    wanted = configured(epair0={"impair": {"delay": "3ms", "loss": "2%"}, "a": {"impair": {"rate": "1mbit"}}})
    assert found(now, before, then) == wanted
    assert found(now, before, configured(epair0={"impair": {"loss": "5%"}})) == configured(
        epair0={"impair": {"loss": "5%"}, "a": {"impair": {"rate": "1mbit"}}}
    )
