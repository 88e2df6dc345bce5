"""Resources of a daemon: locked once, released or left to a successor."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from epaird.control.resources import PAGE, Resources
from epaird.kernel.errors import KernelError
from tests.control.fake import FakeHost
from tests.loop import on_loop


@on_loop
async def test_a_second_daemon_is_refused_and_disturbs_nothing(host: FakeHost, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    async with contextlib.AsyncExitStack() as undo:
        Resources(directory, undo, lambda: False)
        async with contextlib.AsyncExitStack() as other:
            with pytest.raises(KernelError):
                Resources(directory, other, lambda: False)
        assert not host.closed
    assert host.closed


@pytest.mark.parametrize("leaving", [False, True])
def test_the_lock_is_removed_or_left(host: FakeHost, tmp_path: Path, leaving: bool) -> None:
    async def release() -> None:
        directory = tmp_path / "run"
        async with contextlib.AsyncExitStack() as undo:
            held = Resources(directory, undo, lambda: leaving)
            assert not held.leftovers.usable
            assert held.listener(PAGE) is None
        assert bool(list(directory.iterdir())) == leaving
        assert host.closed
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(held.table.fd)

    on_loop(release)()


@on_loop
async def test_each_new_worker_has_a_slot_of_its_own(host: FakeHost, tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as undo:
        held = Resources(tmp_path / "run", undo, lambda: False)
        first, second = held.worker_slot(0), held.worker_slot(0)
        assert first != second
        held.slots.release(first)
        assert held.worker_slot(1) not in (first, second), "it rests until the state file is written"
