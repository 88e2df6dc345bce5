"""From the settings of a pair to the lines of its halves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from epaird.control.operations import Refused
from tests.control.interfaces.scene import make_scene
from tests.loop import on_loop


@on_loop
async def test_a_named_set_of_the_configuration_is_used_and_its_change_is_applied() -> None:
    async with make_scene() as scene:
        impairments = scene.registry.pairs.impairments
        impairments.presets = {"lte": {"delay": "30ms"}}
        await scene.interfaces.create("epair0", {"impair": {"preset": "lte"}})
        (pair,) = scene.registry.pairs
        a = pair.halves[0].line
        assert a is not None
        assert a.spec is not None
        assert a.spec.parameters.delay_ns == 30_000_000
        impairments.presets = {"lte": {"delay": "40ms"}}
        await scene.registry.change([(pair, pair.settings)])
        assert a.spec.parameters.delay_ns == 40_000_000


@on_loop
async def test_a_trace_is_given_to_workers_as_a_sealed_file(tmp_path: Path) -> None:
    async with make_scene() as scene:
        (tmp_path / "lte.up").write_text("1\n5\n10\n")
        scene.registry.pairs.impairments.configuration = tmp_path / "epaird.toml"
        await scene.interfaces.create("epair0", {"a": {"impair": {"trace": "lte.up"}}})
        fds = scene.worker.attachments["epair0"].fds
        assert len(fds) == 4
        assert os.pread(fds[3], 8, 0) == (10**6).to_bytes(8, "little")
        with pytest.raises(PermissionError):
            os.pwrite(fds[3], b"x", 0)


@on_loop
async def test_a_pair_whose_trace_is_missing_is_not_created() -> None:
    async with make_scene() as scene:
        scene.registry.pairs.impairments.configuration = Path("/nowhere/epaird.toml")
        with pytest.raises(Refused, match=r"trace: /nowhere/nowhere\.up: no such file or directory$"):
            await scene.interfaces.create("epair0", {"impair": {"trace": "nowhere.up"}})
        assert scene.devices() == ["lo0"]
