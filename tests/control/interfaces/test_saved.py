"""Interfaces in the form of the state file, whose keys never change."""

from __future__ import annotations

import json
from typing import Any

from epaird.control.interfaces.saved import SavedLoopback, SavedPair, SavedPlace
from tests.control.interfaces.scene import make_scene
from tests.loop import on_loop

DEVICE_KEYS = [
    "name", "slots", "tap_index", "offloads", "missing", "place", "mtu", "up", "carrier", "bases", "placed",
]  # fmt: skip
KEYS_OF_0_2_0 = {"queues", "offload", "coalesce", "carrier", "a", "b"}
"""Keys of a pair that epaird 0.2.0 knows. It refuses any other."""


@on_loop
async def test_the_keys_are_those_of_every_version() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {})
        pair, lo = (kind.save(next(iter(kind)), None).model_dump() for kind in scene.registry.kinds)
        assert list(pair) == [
            "name",
            "settings",
            "origin",
            "workers",
            "halves",
            "plugged",
            "said",
            "expiry",
            "scheduled_ns",
        ]
        assert list(pair["halves"][0]) == ["device", "side", "mac", "peer", "line"]
        assert list(lo) == ["device", "settings", "origin", "worker", "said"]
        assert list(lo["device"]) == list(pair["halves"][0]["device"]) == DEVICE_KEYS
        assert list(lo["device"]["place"]) == ["name", "index", "netns", "nsid", "identity"]


def test_a_place_of_an_older_version_has_names_as_the_kernel_has_them() -> None:
    saved = SavedPlace(name="e\x1b", index=3, netns="r\u05d0d", nsid=1, identity=(4, 5))
    assert saved.place().name == "e\\x1b"
    assert saved.place().netns == "r\\xd7\\x90d"
    assert SavedPlace.of(saved.place()).place() == saved.place()


@on_loop
async def test_settings_have_no_newer_key_that_is_at_its_default() -> None:
    async with make_scene() as scene:
        route = {"to": "10.9.0.0/16", "via": "10.0.0.2"}
        half = {"addresses": ["10.0.0.1/24"], "routes": [route]}
        await scene.interfaces.create("epair0", {"a": half})
        await scene.interfaces.create(
            "epair1", {"pmtu": False, "a": {**half, "routes": [{**route, "metric": 7}]}}
        )
        kind = scene.registry.pairs
        old, new = (kind.save(pair, None).model_copy(update={"said": pair.settings}) for pair in kind)
        for written in (json.loads(old.model_dump_json())[key] for key in ("settings", "said")):
            assert set(written) == KEYS_OF_0_2_0
            assert written["a"]["routes"] == [route]
        for written in (json.loads(new.model_dump_json())[key] for key in ("settings", "said")):
            assert set(written) == KEYS_OF_0_2_0 | {"pmtu"}
            assert written["a"]["routes"] == [{**route, "metric": 7}]
        for saved in (old, new):
            assert SavedPair.model_validate_json(saved.model_dump_json()) == saved


@on_loop
async def test_a_saved_impairment_has_every_key_that_was_given() -> None:
    async with make_scene() as scene:
        phases = [{"loss": "100%", "at": "1s", "for": "2s"}]
        settings: dict[str, Any] = {
            "impair": {"delay": "1ms", "schedule": phases},
            "a": {"impair": {"schedule": []}},
        }
        schedule = [{"carrier": "off", "at": "1s"}]
        await scene.interfaces.create("epair0", {**settings, "schedule": schedule})
        (pair,) = scene.registry.pairs
        saved = scene.registry.pairs.save(pair, None)
        written = json.loads(saved.model_dump_json())["settings"]
        assert set(written) == KEYS_OF_0_2_0 | {"impair", "schedule"}
        assert (written["impair"], written["a"]["impair"]) == (settings["impair"], settings["a"]["impair"])
        assert written["schedule"] == schedule
        assert "impair" not in written["b"]
        assert SavedPair.model_validate_json(saved.model_dump_json()).settings == pair.settings


@on_loop
async def test_a_written_interface_is_read_back() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {"a": {"mtu": 9000}})
        (pair,), (lo,) = scene.registry.pairs, scene.registry.loopbacks
        saved = scene.registry.pairs.save(pair, None)
        assert SavedPair.model_validate_json(saved.model_dump_json()) == saved
        assert [device.name for device in saved.devices] == ["epair0a", "epair0b"]
        alone = scene.registry.loopbacks.save(lo, None)
        assert SavedLoopback.model_validate_json(alone.model_dump_json()) == alone
        assert (alone.name, [device.name for device in alone.devices]) == ("lo0", ["lo0"])
        place = pair.halves[0].place
        assert SavedPlace.model_validate_json(SavedPlace.of(place).model_dump_json()).place() == place
