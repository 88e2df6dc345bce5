"""The journal: applied to the file that it belongs to, as far as it is complete."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.config.settings import PairSettings
from epaird.control.handover import journal
from epaird.control.handover.journal import DamagedJournal, Entry, entries
from epaird.control.handover.state import Keeper, State, read
from epaird.control.interfaces.saved import SavedDevice, SavedHalf, SavedPair, SavedPlace
from epaird.names.cloners import Side
from tests.loop import on_loop

NAMES = [f"epair{number}" for number in range(5)]


def half(pair: str, side: Side) -> SavedHalf:
    place = SavedPlace(name="eth0", index=3, netns="", nsid=None, identity=(4, 5))
    device = SavedDevice(
        name=pair + side, slots=(1,), tap_index=3, offloads=0, missing=(), place=place, mtu=1500, up=True,
        carrier=True, bases=(),
    )  # fmt: skip
    return SavedHalf(device=device, side=side, mac="02:00:00:00:00:01", peer=None)


def pair(name: str, workers: tuple[int, ...] = (0,)) -> SavedPair:
    return SavedPair(
        name=name,
        settings=PairSettings(),
        origin="runtime",
        workers=workers,
        halves=(half(name, "a"), half(name, "b")),
    )


def state(*pairs: SavedPair, token: str = "") -> State:
    return State(home=(4, 5), macs_made=3, workers=(), pairs=pairs, loopbacks=(), journal=token)


_ENTRIES = st.lists(
    st.tuples(st.booleans(), st.sampled_from(NAMES), st.integers(0, 99)).map(
        lambda drawn: Entry(pairs=(pair(drawn[1], (drawn[2],)),)) if drawn[0] else Entry(gone=(drawn[1],))
    ),
    max_size=20,
)


@given(_ENTRIES, st.integers(0, 200))
def test_entries_are_read_as_they_were_written_as_far_as_they_are_complete(
    written: list[Entry], cut: int
) -> None:
    data = journal.header("token") + b"".join(entry.line() for entry in written)
    assert list(entries(data, "token")) == written
    assert list(entries(data, "another")) == []
    found: list[Entry] = []
    with contextlib.suppress(DamagedJournal):
        found.extend(entries(data[: len(data) - cut], "token"))
    assert found == written[: len(found)]


@given(_ENTRIES)
def test_the_last_entry_of_a_name_wins(written: list[Entry]) -> None:
    found = state(pair("epair0"), pair("epair9"))
    expected: dict[str, tuple[int, ...]] = {"epair0": (0,), "epair9": (0,)}
    for entry in written:
        found = found.after(entry)
        for name in entry.gone:
            expected.pop(name, None)
        expected |= {each.name: each.workers for each in entry.pairs}
    assert {each.name: each.workers for each in found.pairs} == expected
    one = state(pair("epair0"), pair("epair9")).after(journal.combined(written))
    assert {each.name: each.workers for each in one.pairs} == expected


@on_loop
async def test_a_damaged_journal_is_used_up_to_the_damage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = Keeper(tmp_path, state)
    keeper.write()
    for name in ("epair0", "epair1", "epair2"):
        keeper.commit(lambda name=name: Entry(pairs=(pair(name),)))  # type: ignore[misc]
    keeper.cancel()
    file = tmp_path / journal.FILE
    lines = file.read_bytes().split(b"\n")
    file.write_bytes(b"\n".join([*lines[:2], b'{"pairs": 3', *lines[3:]]))
    found = read(tmp_path)
    assert found is not None
    assert [each.name for each in found.pairs] == ["epair0"]
    (line,) = caplog.messages
    assert line.startswith(f"{file}: line 3 and what follows is not used: ")


@on_loop
async def test_the_journal_of_an_older_file_is_ignored(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, state)
    keeper.write()
    keeper.commit(lambda: Entry(pairs=(pair("epair0"),)))
    old = (tmp_path / journal.FILE).read_bytes()
    keeper.write()
    (tmp_path / journal.FILE).write_bytes(old)  # as after a kill before the new journal was begun
    found = read(tmp_path)
    assert found is not None
    assert not found.pairs
    (tmp_path / journal.FILE).unlink()
    assert read(tmp_path) == found
    keeper.cancel()


@on_loop
async def test_without_a_journal_the_whole_file_is_written(tmp_path: Path) -> None:
    present: list[SavedPair] = []
    keeper = Keeper(tmp_path, lambda: state(*present))
    keeper.write()
    (tmp_path / journal.FILE).unlink()
    present.append(pair("epair0"))
    keeper.commit(lambda: Entry(pairs=tuple(present)))
    found = read(tmp_path)
    assert found is not None
    assert [each.name for each in found.pairs] == ["epair0"]
    assert keeper.errors == 1
    assert not keeper.failed
    keeper.remove()
    assert not os.listdir(tmp_path)  # noqa: PTH208


@on_loop
async def test_an_entry_that_cannot_be_made_ends_nothing(tmp_path: Path) -> None:
    def failing() -> Entry:
        raise RecursionError("deep")

    keeper = Keeper(tmp_path, state)
    keeper.write()
    keeper.commit(failing)
    assert keeper.errors == 1
    assert read(tmp_path) is not None


@on_loop
async def test_a_state_that_cannot_be_made_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[Exception] = [RuntimeError("no\nstate"), RuntimeError("no\nstate"), OSError(5, "EIO")]

    def failing() -> State:
        if failures:
            raise failures.pop(0)
        return state()

    keeper = Keeper(tmp_path, failing)
    for _ in range(3):
        keeper.write()
    file = tmp_path / "state.json"
    assert caplog.messages == [
        f"{file}: {why}: a successor would not know of the last changes" for why in ("no", "EIO")
    ]
    assert (keeper.errors, keeper.problem) == (3, "EIO")
    keeper.write()
    assert keeper.problem == ""
    keeper.cancel()
    await asyncio.sleep(0)
