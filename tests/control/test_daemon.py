"""The control plane from its start to its end, on a machine without a kernel."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from epaird.config.settings import Configuration
from epaird.control import daemon
from epaird.control.handover import state
from tests.control.fake import FakeHost
from tests.control.leftovers import nothing_left
from tests.loop import has_children, on_loop
from tests.waiting import eventually


@on_loop
async def test_a_worker_that_dies_is_replaced_and_the_daemon_continues(
    host: FakeHost,
    configured: Callable[..., Configuration],
    lines: Callable[..., list[str]],
    tmp_path: Path,
) -> None:
    async with daemon.Daemon(configured()) as running:
        await running.start()
        for worker in running._workers:
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
        await eventually(lambda: all(worker.restarts == 1 and worker.forwards for worker in running._workers))
        host.links["epair0a"].owner.sends()
        await eventually(host.links["epair0b"].owner.receives)
        assert [worker.restarts for worker in running.reading().workers] == [1, 1]
    assert nothing_left(host, tmp_path)


@on_loop
async def test_a_slot_is_not_reused_while_the_state_file_names_its_last_user(
    host: FakeHost, configured: Callable[..., Configuration], tmp_path: Path
) -> None:
    """A successor would take the slot's device for the one that had it before."""
    async with daemon.Daemon(configured()) as running:
        await running.start()
        await running._front_end.create("epair5", {})
        running._handover.write()
        running._handover.changed = lambda: None  # type: ignore[method-assign]
        running._registry.bus.on_change = lambda: None
        # The journal does not end the rest of a slot: it may be lost where the file is not.
        written = state.read(tmp_path / "run")
        await running._front_end.destroy("epair5")
        await running._front_end.create("epair6", {})
        assert written is not None
        assert [pair.name for pair in written.pairs] == ["epair0", "epair5"]
        saved = {slot for device in written.devices for slot in device.slots}
        (now,) = (pair for pair in running._registry.pairs if pair.name == "epair6")
        assert not saved & {slot for half in now.halves for slot in half.slots}
        running._handover.write()
        await running._front_end.create("epair7", {})
        (now,) = (pair for pair in running._registry.pairs if pair.name == "epair7")
        assert {slot for half in now.halves for slot in half.slots} <= saved
    assert nothing_left(host, tmp_path)


@on_loop
async def test_a_failure_while_it_is_taken_down_does_not_keep_the_rest(
    host: FakeHost,
    configured: Callable[..., Configuration],
    lines: Callable[..., list[str]],
    tmp_path: Path,
) -> None:
    host.fail("close_taps")
    host.fail("remove_namespace")
    with pytest.raises(Exception, match="close_taps: Input/output error"):
        async with daemon.Daemon(configured()) as running:
            await running.start()
    assert host.closed
    assert not host.links
    assert len(host.namespaces) == 1
    assert not has_children()


@on_loop
async def test_a_daemon_that_is_never_started_leaves_nothing(
    host: FakeHost, configured: Callable[..., Configuration], tmp_path: Path
) -> None:
    async with daemon.Daemon(configured()):
        pass
    assert nothing_left(host, tmp_path)
