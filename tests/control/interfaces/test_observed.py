"""The present state of devices in the words of the configuration."""

from __future__ import annotations

from dataclasses import replace

from epaird.config.settings import HalfSettings
from epaird.control.interfaces.observed import matching_settings, observed_settings, unsaid_name
from tests.control.stage import idle_stage
from tests.loop import on_loop


@on_loop
async def test_an_owners_changes_are_observed() -> None:
    async with idle_stage() as stage:
        stage.host.add_namespace("red")
        a = (await stage.make(a={"mtu": 1400})).halves[0]
        assert observed_settings(a) == {"mtu": 1400, "up": True, "name": None, "netns": None}
        stage.host.report(stage.host.move("epair0a", "red", "eth0"))
        a.mtu, a.up = 9000, False
        assert observed_settings(a) == {"mtu": 9000, "up": False, "name": "eth0", "netns": "red"}


@on_loop
async def test_a_name_that_no_configuration_can_give_is_left_out() -> None:
    async with idle_stage() as stage:
        stage.host.add_namespace("red")
        a, b = (await stage.make(a={"netns": "red", "name": "eth0"}, b={"netns": "red"})).halves
        for half, name, configured in ((a, "lo", "eth0"), (b, "lo", None)):
            half.place = replace(half.place, name=name)
            assert observed_settings(half)["name"] == configured
            assert unsaid_name(half) == '"lo" is taken: every namespace has a lo of its own'
        for half, name in ((a, "e\\xff\\x1b"), (b, "epair0b")):
            half.place = replace(half.place, name=name)
            assert observed_settings(half)["name"] == (name if half is a else None)
            assert unsaid_name(half) == ""


@on_loop
async def test_a_namespace_keeps_the_spelling_of_the_file() -> None:
    async with idle_stage() as stage:
        stage.host.add_namespace("red")
        a = (await stage.make(a={"netns": "red"})).halves[0]
        wanted = HalfSettings(netns="/run/netns/red", mtu=1400)
        assert matching_settings(a, observed_settings(a), wanted) == {
            "name": None, "up": True, "netns": "/run/netns/red",
        }  # fmt: skip


@on_loop
async def test_a_namespace_without_a_name_is_the_configured_one() -> None:
    async with idle_stage() as stage:
        stage.host.add_namespace("red")
        a = (await stage.make(a={"netns": "red"})).halves[0]
        a.place = replace(a.place, netns="")
        assert observed_settings(a)["netns"] == "red"
