"""Loopbacks, on a machine without a kernel."""

from __future__ import annotations

import errno

from tests.control.interfaces.scene import make_scene, refused
from tests.loop import on_loop


@on_loop
async def test_policy_routing_follows_the_settings() -> None:
    async with make_scene() as scene:
        settings = {"mode": "verbatim", "policy_routing": True, "addresses": ["10.88.7.1/24"]}
        await scene.interfaces.create("lo1", settings)

        def routed() -> tuple[str, ...]:
            return scene.host.links["lo1"].routed

        assert routed() == ("10.88.7.1/24",)
        await scene.interfaces.change("lo1", {"addresses": ["10.88.8.1/24"]})
        assert routed() == ("10.88.8.1/24",)
        await scene.interfaces.change("lo1", {"policy_routing": False})
        assert routed() == ()
        scene.host.fail("route_through", errno.EPERM)
        assert await refused(scene.interfaces.create("lo2", settings)) == "EPERM"
        assert scene.devices() == ["lo0", "lo1"]


@on_loop
async def test_a_change_that_fails_leaves_the_routing_of_before() -> None:
    async with make_scene() as scene:
        settings = {"mode": "verbatim", "policy_routing": True, "addresses": ["10.88.7.1/24"]}
        await scene.interfaces.create("lo1", settings)
        for operation, request in (("rename", {"name": "eth7"}), ("route_through", {"mtu": 1400})):
            scene.host.fail(operation, errno.EPERM)
            assert await refused(scene.interfaces.change("lo1", request)) == "EPERM"
            assert scene.host.links["lo1"].routed == ("10.88.7.1/24",), operation
