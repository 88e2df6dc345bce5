"""Files that no other user could have planted."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from epaird.control.machine import privatefiles
from epaird.control.machine.privatefiles import private_directory, read_file, remove_file, replace_file


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file of somebody else."""
    file = tmp_path / "victim"
    file.write_text("precious")
    return file


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "run"
    made.mkdir(mode=0o755)
    return made


def test_a_file_is_replaced_read_and_removed(directory: Path) -> None:
    for data in (b"first", b"second"):
        replace_file(directory, "state", data)
        assert read_file(directory, "state") == data
    assert stat.S_IMODE((directory / "state").stat().st_mode) == 0o600
    remove_file(directory, "state")
    remove_file(directory, "state")
    assert not list(directory.iterdir())


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_only_the_owner_may_read_it_whatever_the_umask(directory: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        replace_file(directory, "state", b"secret")
    finally:
        os.umask(before)
    assert not stat.S_IMODE((directory / "state").stat().st_mode) & 0o177


@pytest.mark.parametrize(("mode", "shown"), [(0o777, "0777"), (0o775, "0775"), (0o1777, "1777")])
def test_a_directory_that_others_may_write_to_is_refused(directory: Path, mode: int, shown: str) -> None:
    directory.chmod(mode)
    for attempt in (
        lambda: read_file(directory, "state"),
        lambda: replace_file(directory, "state", b""),
        lambda: private_directory(directory).__enter__(),
    ):
        with pytest.raises(PermissionError) as caught:
            attempt()
        assert caught.value.strerror == f"has mode {shown}, so that other users could replace the files in it"
    assert not list(directory.iterdir())


def test_a_directory_of_another_user_is_refused(directory: Path) -> None:
    os.chown(directory, 65534, -1)
    with pytest.raises(PermissionError) as caught, private_directory(directory):
        pass
    assert caught.value.strerror == "belongs to user 65534, who could replace the files in it"


def test_links_are_not_followed(directory: Path, victim: Path) -> None:
    (directory / "state").symlink_to(victim)
    (directory / "state.new").symlink_to(victim)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        read_file(directory, "state")
    assert caught.value.errno == errno.ELOOP
    replace_file(directory, "state", b"own")
    assert victim.read_text() == "precious"
    assert read_file(directory, "state") == b"own"


def test_what_is_no_regular_file_is_not_read(directory: Path) -> None:
    os.mkfifo(directory / "state")
    with pytest.raises(OSError, match="is not a regular file"):
        read_file(directory, "state")


def test_a_file_that_is_too_large_is_not_read(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privatefiles, "BYTES_MAX", 10)
    replace_file(directory, "state", b"x" * 10)
    assert read_file(directory, "state") == b"x" * 10
    replace_file(directory, "state", b"x" * 11)
    with pytest.raises(OSError, match="has more than 10 bytes"):
        read_file(directory, "state")


def test_a_failure_leaves_the_old_file(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_file(directory, "state", b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(directory, "state", b"new")
    assert [each.name for each in directory.iterdir()] == ["state"]
    assert read_file(directory, "state") == b"old"
