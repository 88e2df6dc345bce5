"""The upkeep of a run directory: what is restored, in which order, and what is logged."""

from __future__ import annotations

import contextlib
import logging
import shutil
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from epaird.control.handover import upkeep
from epaird.control.handover.claim import Claim, Claimed
from epaird.control.handover.rundirectory import RunDirectory
from epaird.control.handover.upkeep import Restorable, Upkeep
from epaird.control.http.listening import ListenError
from tests.loop import on_loop
from tests.waiting import eventually


class Files:
    """Files in a directory, each an entry."""

    def __init__(self, directory: Path, *names: str) -> None:
        self.directory = directory
        self.restored: list[str] = []
        self.failure: Exception | None = None
        self.failed = 0
        self.entries = tuple(map(self._entry, names))
        for name in names:
            (directory / name).touch()

    def _entry(self, name: str) -> Restorable:
        path = self.directory / name

        async def restore() -> None:
            if self.failure is not None:
                self.failed += 1
                raise self.failure
            self.restored.append(name)
            path.touch()

        return Restorable(f"the {name}", path.exists, restore)


@contextlib.asynccontextmanager
async def kept(directory: Path, files: Files) -> AsyncIterator[tuple[RunDirectory, Upkeep]]:
    """Keep a directory up."""
    held = RunDirectory(directory)
    running = Upkeep(held, files.entries)
    running.start()
    await running.check()
    try:
        yield held, running
    finally:
        await running.stop()
        await running.stop()
        held.release()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory whose changes are noticed by events alone."""
    monkeypatch.setattr(upkeep, "CHECK_S", 3600.0)
    directory = tmp_path / "above" / "run"
    directory.mkdir(parents=True)
    return directory


def test_the_directory_is_first_and_is_one_line_of_the_log(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def remove() -> None:
        files = Files(run, "socket", "state")
        async with kept(run, files) as (held, _):
            shutil.rmtree(run.parent)
            await eventually(lambda: files.restored == ["socket", "state"])
            assert held.held

    with caplog.at_level(logging.WARNING):
        on_loop(remove)()
    assert stat.S_IMODE(run.stat().st_mode) == 0o755
    assert [record.getMessage() for record in caplog.records] == [
        f"{run}: removed or replaced by others: created again"
    ]


@on_loop
async def test_a_file_is_restored_alone(run: Path) -> None:
    files = Files(run, "socket", "state")
    async with kept(run, files):
        (run / "state").unlink()
        await eventually(lambda: files.restored == ["state"])


@on_loop
async def test_a_lock_that_is_replaced_is_locked_again(run: Path) -> None:
    async with kept(run, Files(run)) as (held, _):
        (run / "lock").unlink()
        (run / "lock").touch()
        await eventually(lambda: held.held)
        with pytest.raises(Claimed):
            Claim(run)


def test_a_failure_is_logged_once_and_tried_again(
    run: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "CHECK_S", 0.01)

    async def fail() -> None:
        files = Files(run, "socket")
        files.failure = ListenError("in use")
        async with kept(run, files):
            (run / "socket").unlink()
            await eventually(lambda: files.failed == 5)
            files.failure = None
            await eventually(lambda: files.restored == ["socket"])

    with caplog.at_level(logging.WARNING):
        on_loop(fail)()
    assert [record.getMessage() for record in caplog.records] == [
        f"the socket in {run}: removed or replaced by others, and not created again yet: in use",
        f"the socket in {run}: removed or replaced by others: created again",
    ]


@on_loop
async def test_a_directory_of_another_daemon_is_left_to_it(run: Path, tmp_path: Path) -> None:
    """One of another network namespace, which the claim does not keep out."""
    files = Files(run, "socket")
    async with kept(run, files) as (held, running):
        other = RunDirectory(tmp_path / "other")
        shutil.rmtree(run)
        (tmp_path / "other").rename(run)
        await running.check()
        assert not held.held
        assert not (run / "socket").exists()
        other.path = run
        other.release()
        await eventually(lambda: held.held and files.restored == ["socket"])
