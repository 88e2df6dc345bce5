"""Every change that inotify can report, of every part of a path."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.kernel.errors import KernelError
from epaird.kernel.inotify import Inotify
from epaird.kernel.pathwatch import SYMLINKS_MAX, PathWatch, Seen, lookups
from tests.kernel.files import exchange, relink
from tests.kernel.openfiles import open_files


def site(root: Path) -> Path:
    """Make a path with a link in its middle and a link at its end; return it."""
    for release in ("r1", "r2"):
        (root / release).mkdir()
        (root / release / "file").write_text(release)
    (root / "etc").mkdir()
    (root / "current").symlink_to("r1")
    (root / "etc" / "file").symlink_to("../current/file")
    os.link(root / "r1" / "file", root / "twin")
    return root / "etc" / "file"


def text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def replaced(root: Path) -> None:
    (root / "r1" / "new").write_text("5")
    (root / "r1" / "new").replace(root / "r1" / "file")


def linked_hard(root: Path) -> None:
    (root / "r1" / "file").unlink()
    os.link(root / "r2" / "file", root / "r1" / "file")


def link_removed_and_made(root: Path) -> None:
    (root / "etc" / "file").unlink()
    (root / "etc" / "file").symlink_to("../current/file")


def directory_made(root: Path) -> None:
    (root / "r1").mkdir()
    (root / "r1" / "file").write_text("6")


CHANGES: dict[str, Callable[[Path], object]] = {
    "written": lambda root: (root / "r1" / "file").write_text("2"),
    "written through another hard link": lambda root: (root / "twin").write_text("3"),
    "the other release is written": lambda root: (root / "r2" / "file").write_text("4"),
    "truncated": lambda root: os.truncate(root / "r1" / "file", 0),
    "replaced": replaced,
    "linked hard": linked_hard,
    "link in the middle": lambda root: relink(root / "current", "r2"),
    "link in the middle, absolute": lambda root: relink(root / "current", root / "r1"),
    "link at the end": lambda root: relink(root / "etc" / "file", "../r2/file"),
    "link at the end by way of others": lambda root: relink(root / "etc" / "file", "../etc/../current/file"),
    "link removed and made": link_removed_and_made,
    "directories exchanged": lambda root: exchange(root / "r1", root / "r2"),
    "directory renamed": lambda root: (root / "r1").rename(root / "away"),
    "directory renamed back": lambda root: (root / "away").rename(root / "r1"),
    "directory removed": lambda root: shutil.rmtree(root / "r1"),
    "directory made": directory_made,
    "etc renamed": lambda root: (root / "etc").rename(root / "etc.old"),
    "etc renamed back": lambda root: (root / "etc.old").rename(root / "etc"),
    "linked to itself": lambda root: relink(root / "current", "current"),
    "unrelated": lambda root: (root / "other").write_text("7"),
}


@contextmanager
def watched(path: Path) -> Iterator[PathWatch]:
    before = open_files()
    with contextlib.closing(PathWatch(path)) as watch:
        assert watch.problem is None
        yield watch
    assert open_files() <= before, "others may close some of theirs"


@given(st.lists(st.sampled_from(sorted(CHANGES)), min_size=1, max_size=8))
def test_no_change_of_the_text_is_without_an_event(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        path = site(root)
        with watched(path) as watch:
            for name in names:
                before = text(path)
                with contextlib.suppress(OSError):
                    CHANGES[name](root)
                seen = watch.read()
                assert text(path) == before or seen is not Seen.NOTHING, name
                watch.renew()
                watch.read()


def test_several_changes_at_once_leave_the_right_watches(tmp_path: Path) -> None:
    path = site(tmp_path)
    with watched(path) as watch:
        relink(tmp_path / "current", "r2")
        (tmp_path / "r2" / "file").unlink()
        (tmp_path / "r2" / "file").symlink_to(tmp_path / "last")
        assert watch.read() is Seen.CHANGED
        watch.renew()
        (tmp_path / "last").write_text("1")
        assert watch.read() is Seen.CHANGED
        watch.renew()
        (tmp_path / "last").write_text("2")
        assert watch.read() is Seen.CHANGED
        (tmp_path / "r1" / "file").write_text("3")
        assert watch.read() is Seen.NOTHING, "it is not on the path any more"


def test_a_file_that_is_still_open_is_told_from_one_that_was_closed(tmp_path: Path) -> None:
    path = site(tmp_path)
    with watched(path) as watch:
        with (tmp_path / "twin").open("w") as file:
            file.write("1")
            file.flush()
            assert watch.read() is Seen.WRITING
        assert watch.read() is Seen.CHANGED


def test_events_of_other_names_in_the_directories_are_ignored(tmp_path: Path) -> None:
    path = site(tmp_path)
    with watched(path) as watch:
        for directory in (tmp_path, tmp_path / "etc", tmp_path / "r1"):
            (directory / "another").write_text("1")
        assert watch.read() is Seen.NOTHING


def test_a_directory_reports_each_of_its_entries_and_need_not_exist(tmp_path: Path) -> None:
    with watched(tmp_path / "run" / "netns") as watch:
        (tmp_path / "run" / "netns").mkdir(parents=True)
        assert watch.read() is Seen.CHANGED
        watch.renew()
        (tmp_path / "run" / "netns" / "red").touch()
        assert watch.read() is Seen.CHANGED
        (tmp_path / "run" / "netns" / "red").unlink()
        assert watch.read() is Seen.CHANGED


@pytest.mark.parametrize("step", ["__init__", "add"])
def test_it_survives_the_limits_of_inotify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def refuse(*_: object) -> int:
        raise KernelError(errno.ENOSPC, "too many")

    monkeypatch.setattr(Inotify, step, refuse)
    watch = PathWatch(site(tmp_path))
    assert str(watch.problem) == "too many"
    assert (watch.fileno() < 0) == (step == "__init__")
    assert watch.read() is Seen.NOTHING
    watch.renew()
    watch.close()
    watch.close()


def test_lookups_follow_every_link(tmp_path: Path) -> None:
    path = site(tmp_path)
    found = [each for each in lookups(path) if each[0].is_relative_to(tmp_path)]
    assert found == [
        (tmp_path, "etc"), (tmp_path / "etc", "file"), (tmp_path, "current"), (tmp_path, "r1"),
        (tmp_path / "r1", "file"),
    ]  # fmt: skip
    assert list(lookups(Path("/"))) == []
    assert list(lookups(tmp_path / "etc" / ".." / "none" / "file"))[-1] == (tmp_path, "none")


def test_lookups_end_where_links_lead_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert len(list(lookups(tmp_path / "a" / "file"))) <= SYMLINKS_MAX + len(tmp_path.parts)
