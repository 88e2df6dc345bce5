"""Loopbacks, on a machine without a kernel."""

from __future__ import annotations

import errno

from epaird.kernel.policy import TABLES
from tests.control.interfaces.scene import make_scene, refused
from tests.loop import on_loop

ROUTED = {"mode": "verbatim", "policy_routing": True, "addresses": ["10.88.7.1/24"]}


@on_loop
async def test_policy_routing_follows_the_settings() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("lo1", ROUTED)
        link = scene.host.links["lo1"]
        assert link.table == TABLES[1]
        await scene.interfaces.change("lo1", {"policy_routing": False})
        assert link.table is None
        await scene.interfaces.change("lo1", {"policy_routing": True})
        assert link.table == TABLES[1]
        scene.host.fail("converge", errno.EPERM)
        assert await refused(scene.interfaces.create("lo2", ROUTED)) == "EPERM"
        assert scene.devices() == ["lo0", "lo1"]


@on_loop
async def test_a_change_that_fails_leaves_the_routing_of_before() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("lo1", ROUTED)
        for operation, request in (("set_name", {"name": "eth7"}), ("converge", {"mtu": 1400})):
            scene.host.fail(operation, errno.EPERM)
            assert await refused(scene.interfaces.change("lo1", request)) == "EPERM"
            assert scene.host.links["lo1"].table == TABLES[1], operation
