from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path

import pytest

from epaird.kernel import abi
from epaird.kernel.directorywatch import DirectoryWatch
from epaird.kernel.errors import KernelError
from tests.kernel.openfiles import open_files


def readable(watch: DirectoryWatch) -> bool:
    return bool(select.select([watch.fileno()], [], [], 0)[0])


def test_only_the_given_events_of_every_directory_are_reported(tmp_path: Path) -> None:
    directories = [tmp_path / name for name in ("red", "blue")]
    for directory in directories:
        directory.mkdir()
    watch = DirectoryWatch(*map(str, directories), events=abi.IN_CLOSE_WRITE | abi.IN_DELETE, label="files")
    with contextlib.closing(watch):
        for directory in directories:
            file = directory / "file"
            file.write_text("1")
            assert readable(watch)
            watch.drain()
            file.rename(directory / "other")
            assert not readable(watch)
            (directory / "other").unlink()
            assert readable(watch)
            watch.drain()
            assert not readable(watch)


def test_many_events_are_drained_at_once(tmp_path: Path) -> None:
    with contextlib.closing(DirectoryWatch(str(tmp_path), events=abi.IN_DELETE, label="files")) as watch:
        for number in range(5000):
            file = tmp_path / f"{number:0100}"
            file.touch()
            file.unlink()
        watch.drain()
        assert not readable(watch)


def test_a_missing_directory_is_named_and_leaves_nothing_open(tmp_path: Path) -> None:
    before = open_files()
    missing = str(tmp_path / "none")
    with pytest.raises(KernelError, match=f"^watching {missing}: No such file or directory$"):
        DirectoryWatch(str(tmp_path), missing, events=abi.IN_DELETE, label="files")
    assert open_files() == before


def test_closing_may_be_repeated_and_the_descriptor_is_not_inherited(tmp_path: Path) -> None:
    watch = DirectoryWatch(str(tmp_path), events=abi.IN_DELETE, label="files")
    descriptor = watch.fileno()
    assert not os.get_inheritable(descriptor)
    watch.close()
    watch.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
