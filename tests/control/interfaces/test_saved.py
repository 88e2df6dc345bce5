"""Interfaces in the form of the state file, whose keys never change."""

from __future__ import annotations

from epaird.control.interfaces.saved import SavedLoopback, SavedPair, SavedPlace
from tests.control.interfaces.scene import make_scene
from tests.loop import on_loop

DEVICE_KEYS = [
    "name", "slots", "tap_index", "offloads", "missing", "place", "mtu", "up", "carrier", "bases", "placed",
]  # fmt: skip


@on_loop
async def test_the_keys_are_those_of_every_version() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {})
        pair, lo = (kind.save(next(iter(kind)), None).model_dump() for kind in scene.registry.kinds)
        assert list(pair) == ["name", "settings", "origin", "workers", "halves", "plugged", "said"]
        assert list(pair["halves"][0]) == ["device", "side", "mac", "peer"]
        assert list(lo) == ["device", "settings", "origin", "worker", "said"]
        assert list(lo["device"]) == list(pair["halves"][0]["device"]) == DEVICE_KEYS
        assert list(lo["device"]["place"]) == ["name", "index", "netns", "nsid", "identity"]


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
