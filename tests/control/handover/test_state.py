"""The state file: written in one step, shortly after a change, and read again."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from epaird.control.handover import state
from epaird.control.handover.state import Keeper, SavedWorker, State, read
from tests.control.stage import idle_stage
from tests.loop import on_loop
from tests.waiting import eventually


def some(made: int = 3) -> State:
    worker = SavedWorker(number=0, slot=0, pid=77, restarts=1)
    return State(home=(4, 5), macs_made=made, workers=(worker,), pairs=(), loopbacks=())


def test_a_file_that_cannot_be_used_is_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read(tmp_path) is None
    file = tmp_path / "state.json"
    for text in ("", "{", "[]", '{"version": 1}'):
        file.write_text(text)
        assert read(tmp_path) is None
    assert len(caplog.messages) == 4
    assert all(line.startswith(f"{file}: not used: ") for line in caplog.messages)


def test_a_state_of_another_version_is_read_as_far_as_it_is_known(tmp_path: Path) -> None:
    document = some().model_dump(mode="json") | {"version": 99, "bridges": ["a field of the future"]}
    (tmp_path / "state.json").write_text(json.dumps(document))
    assert read(tmp_path) == some().model_copy(update={"version": 99})


@on_loop
async def test_pairs_are_read_as_they_were_written(tmp_path: Path) -> None:
    async with idle_stage(2) as stage:
        pair = await stage.make("epair0", a={"mtu": 9000, "addresses": ["10.0.0.1/24"]}, carrier="always")
        await stage.make("epair1", queues=2)
        written = some().model_copy(
            update={"pairs": tuple(stage.pairs.save(each, None) for each in stage.pairs)}
        )
        Keeper(tmp_path, lambda: written).write()
        found = read(tmp_path)
        assert found is not None
        assert found == written.model_copy(update={"journal": found.journal})
        assert found.pairs[0].settings == pair.settings
        assert found.pairs[0].halves[0].device.place.place() == pair.halves[0].place
        assert [half.peer for half in found.pairs[0].halves] == ["epair0b", "epair0a"]
        assert [len(half.device.slots) for half in found.pairs[1].halves] == [2, 2]


@on_loop
async def test_many_changes_are_written_once(tmp_path: Path) -> None:
    written: list[int] = []

    def now() -> State:
        written.append(1)
        return some(len(written))

    keeper = Keeper(tmp_path, now)
    for _ in range(100):
        keeper.changed()
    await eventually(lambda: written)
    await asyncio.sleep(0.1)
    assert len(written) == 1
    keeper.changed()
    await eventually(lambda: len(written) == 2)
    found = read(tmp_path)
    assert found is not None
    assert found.macs_made == 2
    keeper.changed()
    keeper.remove()
    await asyncio.sleep(0.1)
    assert not os.listdir(tmp_path)  # noqa: PTH208


@on_loop
async def test_a_failure_to_write_is_logged_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(state, "AGAIN_S", 0.01)
    directory = tmp_path / "run"
    keeper = Keeper(directory, some)
    keeper.write()
    await asyncio.sleep(0.1)
    file = directory / "state.json"
    failure = f"{file}: No such file or directory: a successor would not know of the last changes"
    assert caplog.messages == [failure]
    caplog.set_level("INFO")
    directory.mkdir()
    await eventually(file.exists)
    assert caplog.messages[-1] == f"{file}: can be written again"
    found = read(directory)
    assert found is not None
    assert found == some().model_copy(update={"journal": found.journal})
