from __future__ import annotations

import contextlib
import errno
import os
import select
from pathlib import Path

import pytest

from epaird.kernel import abi, inotify
from epaird.kernel.errors import KernelError
from epaird.kernel.inotify import Inotify
from tests.kernel.openfiles import open_files


def pending(watch: Inotify) -> bool:
    return bool(select.select([watch.fileno()], [], [], 0)[0])


def test_events_have_the_name_in_the_directory_or_none_for_itself(tmp_path: Path) -> None:
    directory = tmp_path / "red"
    directory.mkdir()
    with contextlib.closing(Inotify()) as watch:
        number = watch.add(str(directory), abi.IN_CREATE | abi.IN_DELETE | abi.IN_DELETE_SELF)
        assert watch.add(str(directory), abi.IN_CREATE | abi.IN_DELETE | abi.IN_DELETE_SELF) == number
        assert watch.read() == []
        name = os.fsdecode(b"t\xfcr")
        (directory / name).touch()
        (directory / name).unlink()
        directory.rmdir()
        events = watch.read()
        assert [(each.watch, each.mask, each.name) for each in events] == [
            (number, abi.IN_CREATE, name), (number, abi.IN_DELETE, name), (number, abi.IN_DELETE_SELF, ""),
            (number, abi.IN_IGNORED, ""),
        ]  # fmt: skip
        watch.remove(number)
        assert not pending(watch)


def test_a_watch_that_was_removed_reports_nothing_more(tmp_path: Path) -> None:
    with contextlib.closing(Inotify()) as watch:
        watch.remove(watch.add(str(tmp_path), abi.IN_CREATE))
        watch.read()
        (tmp_path / "file").touch()
        assert not pending(watch)


def test_many_events_are_read_in_several_steps(tmp_path: Path) -> None:
    with contextlib.closing(Inotify()) as watch:
        watch.add(str(tmp_path), abi.IN_DELETE)
        for number in range(5000):
            file = tmp_path / f"{number:0100}"
            file.touch()
            file.unlink()
        read = []
        while events := watch.read():
            read += [each.name for each in events]
        assert read == [f"{number:0100}" for number in range(5000)]
        assert not pending(watch)


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with contextlib.closing(Inotify()) as watch, pytest.raises(KernelError) as error:
        watch.add(str(tmp_path / "none"), abi.IN_DELETE)
    assert str(error.value) == f"watching {tmp_path / 'none'}: No such file or directory"


@pytest.mark.parametrize(("number", "limit"), [
    (errno.EMFILE, "fs.inotify.max_user_instances"), (errno.ENOSPC, "fs.inotify.max_user_watches"),
])  # fmt: skip
def test_a_limit_is_explained(number: int, limit: str) -> None:
    error = inotify._failed("watching /etc", number)
    assert (error.errno, limit in str(error)) == (number, True)


def test_closing_may_be_repeated_and_the_descriptor_is_not_inherited() -> None:
    before = open_files()
    watch = Inotify()
    assert not os.get_inheritable(watch.fileno())
    watch.close()
    watch.close()
    assert watch.fileno() == -1
    assert open_files() == before
