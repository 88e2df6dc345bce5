"""The interfaces of a configuration at the start."""

from __future__ import annotations

import errno

import pytest

from epaird.config.reading import parse
from epaird.control.creating import create_interfaces, reserve
from epaird.kernel.errors import KernelError
from epaird.names.macpool import MacPool
from tests.control.interfaces.scene import make_scene
from tests.loop import on_loop

TWO: dict[str, object] = {"epair": {"epair0": {}, "epair1": {}}}


@on_loop
async def test_what_exists_and_what_was_withdrawn_is_not_created() -> None:
    async with make_scene() as scene:
        await scene.interfaces.create("epair0", {})
        before = scene.host.links["epair0a"]
        scene.registry.withdrawn.add("epair1")
        await create_interfaces(scene.registry, parse({**TWO, "lo": {"lo1": {}}}), takes_over=False)
        assert scene.devices() == ["epair0a", "epair0b", "lo0", "lo1"]
        assert scene.host.links["epair0a"] is before


@on_loop
async def test_all_or_nothing_is_created() -> None:
    async with make_scene() as scene:
        scene.host.fail("open_tap", errno.EINVAL)
        with pytest.raises(KernelError):
            await create_interfaces(scene.registry, parse(TWO), takes_over=False)
        assert scene.devices() == ["lo0"]


@on_loop
async def test_a_successor_leaves_missing_what_cannot_be_created(caplog: pytest.LogCaptureFixture) -> None:
    async with make_scene() as scene:
        scene.host.fail("open_tap", errno.EINVAL)
        await create_interfaces(scene.registry, parse(TWO), takes_over=True)
        (line,) = [line for line in caplog.messages if ": missing, and created again" in line]
        missing = line.partition(":")[0]
        (present,) = {"epair0", "epair1"} - {missing}
        assert scene.devices() == [f"{present}a", f"{present}b", "lo0"]


def test_addresses_that_a_configuration_names_are_given_to_no_other_half() -> None:
    first = MacPool(1).derive(None)["a"]
    macs = MacPool(1)
    reserve(macs, parse({"epair": {"epair0": {"a": {"mac": first}, "b": {"mac": "stable"}}}}))
    assert first not in macs.derive(None).values()
