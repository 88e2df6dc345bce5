"""The settings of a pair: merged with requests and compared with the present state."""

from __future__ import annotations

import pytest

from epaird.config.reading import InvalidConfiguration
from epaird.control.interfaces.pairsettings import exact_settings, merged_settings, observed_pair, with_peers
from epaird.control.operations import Refused
from tests.control.stage import idle_stage
from tests.loop import on_loop


@on_loop
async def test_a_key_of_a_half_is_changed_for_one_or_for_both() -> None:
    async with idle_stage() as stage:
        pair = await stage.make(a={"up": False})
        both = merged_settings(pair, None, {"mtu": 1400, "coalesce": False})
        assert (both.a.mtu, both.b.mtu, both.coalesce, both.a.up) == (1400, 1400, False, False)
        b = merged_settings(pair, pair.halves[1], {"mtu": 1400})
        assert (b.a.mtu, b.b.mtu) == (1500, 1400)
        assert merged_settings(pair, None, {"b": {"mtu": 1400}}) == b


@on_loop
async def test_the_carrier_is_switched_on_with_the_rule_it_had() -> None:
    async with idle_stage() as stage:
        pair = await stage.make(carrier="always")
        off = merged_settings(pair, None, {"carrier": "off"})
        await stage.in_place.apply([stage.pairs.changing(pair, off)])
        assert not stage.host.links["epair0a"].carrier
        assert merged_settings(pair, None, {"carrier": "on"}).carrier == "always"


@on_loop
async def test_peers_are_changed_by_patching_only() -> None:
    async with idle_stage() as stage:
        pair = await stage.make(a={"peer": "epair1b"})
        with pytest.raises(Refused, match="peer is changed by patch and unpatch"):
            merged_settings(pair, pair.halves[0], {"peer": "epair2a"})
        with pytest.raises(InvalidConfiguration, match="mtu"):
            merged_settings(pair, None, {"mtu": 1})
        assert merged_settings(pair, None, {"mtu": 1400}).a.peer == "epair1b"


@on_loop
async def test_the_observed_pair_has_the_present_peers_and_addresses() -> None:
    async with idle_stage() as stage:
        one, two = await stage.make("epair0", a={"mac": "stable"}), await stage.make("epair1")
        await stage.pairs.patching.patch(one.halves[0], two.halves[1])
        observed = observed_pair(one)
        assert (observed.a.peer, observed.b.peer) == ("epair1b", "")
        assert (observed.a.mac, observed.b.mac) == ("stable", one.halves[1].mac)
        assert exact_settings(one).a.mac == one.halves[0].mac
        assert with_peers(one, observed).a.peer == "epair1b"
        assert with_peers(one, observed).a.mac == "stable"
