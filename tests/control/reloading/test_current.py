"""The running state as a configuration."""

from __future__ import annotations

from epaird.config.reading import parse
from epaird.control.reloading.current import peers, running_configuration, running_state
from tests.control.interfaces.scene import make_scene
from tests.loop import on_loop


@on_loop
async def test_interfaces_created_at_runtime_belong_to_the_state_if_the_file_has_them() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {})
        await scene.interfaces.create("lo1", {})
        current = parse({"lo": {}})
        state = running_state(scene.registry, current, ("red",), current)
        assert list(state.configuration.epair) == []
        assert list(state.configuration.lo or {}) == ["lo0"]
        assert state.configuration.namespaces.create == ("red",)
        assert state.runtime == frozenset()
        assert state.peers == {"epair0a": "epair0b", "epair0b": "epair0a"}
        file = parse({"lo": {"lo1": {}}, "epair": {"epair0": {"a": {"mtu": 9000}}}})
        state = running_state(scene.registry, current, (), file)
        assert state.runtime == {"epair0", "lo1"}
        assert state.configuration.epair["epair0"].a.mtu == 1500


@on_loop
async def test_an_implied_interface_that_does_not_exist_is_lost() -> None:
    async with make_scene() as scene:
        current = parse({"lo": {}})
        scene.host.report(scene.host.delete("lo0"))
        state = running_state(scene.registry, current, (), current)
        assert state.lost == {"lo0"}
        assert state.configuration.lo == {}


@on_loop
async def test_the_running_configuration_has_everything_as_it_is() -> None:
    async with make_scene() as scene:
        for name in ("epair0", "epair1"):
            await scene.interfaces.create(name, {"a": {"mtu": 1400}})
        await scene.interfaces.patch("epair0a", "epair1b", force=True)
        (half, *_) = scene.registry.pairs.ifnets
        half.mtu = 1300
        found = running_configuration(scene.registry, parse({}), ())
        assert list(found.epair) == ["epair0", "epair1"]
        assert (found.epair["epair0"].a.mtu, found.epair["epair0"].a.peer) == (1300, "epair1b")
        assert found.epair["epair0"].b.peer == ""
        assert list(found.lo or {}) == ["lo0"]
        assert peers(scene.registry) == {
            "epair0a": "epair1b", "epair0b": None, "epair1a": None, "epair1b": "epair0a",
        }  # fmt: skip
