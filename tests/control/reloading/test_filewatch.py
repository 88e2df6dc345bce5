"""Files that are written, replaced, linked, mounted and emptied, as by editors and deployments."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import mmap
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from epaird.config.bounds import MAX_BYTES
from epaird.config.reading import digest
from epaird.control.reloading import filewatch
from epaird.control.reloading.filewatch import FileWatch, Look, look
from epaird.kernel.errors import KernelError
from epaird.kernel.inotify import Inotify
from tests.kernel.files import exchange, relink
from tests.loop import on_loop
from tests.waiting import eventually

looks: list[Path] = []
"""The looks at a file."""


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def counting(path: Path) -> Look:
        looks.append(path)
        return look(path)

    looks.clear()
    monkeypatch.setattr(filewatch, "look", counting)
    monkeypatch.setattr(filewatch, "CHECK_S", 0.2)


class Watched:
    """A file that is watched, and the texts that were noticed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.noticed: list[str] = []
        self._known = digest(path.read_bytes())

    def known(self) -> str:
        """Return the digest of the text that was noticed last."""
        return self._known

    async def changed(self, sha256: str) -> None:
        """Notice another text."""
        assert sha256 == digest(self.path.read_bytes())
        self._known = sha256
        self.noticed.append(self.path.read_text())

    async def notices(self, text: str) -> None:
        """Wait until a text is noticed, and check that it is noticed once."""
        await eventually(lambda: self.noticed)
        await self.rests()
        assert self.noticed == [text]
        self.noticed.clear()

    async def rests(self) -> None:
        """Wait until the file was looked at twice more, at the usual interval."""
        for _ in range(2):
            looks.clear()
            await eventually(lambda: looks)


@contextlib.asynccontextmanager
async def watching(path: Path) -> AsyncIterator[Watched]:
    watched = Watched(path)
    watch = FileWatch(path, watched.known, watched.changed)
    await watched.rests()
    try:
        yield watched
        assert not watched.noticed
    finally:
        await watch.stop()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Two releases, of which ``current`` is one, and a link to the file in it."""
    for release in ("r1", "r2"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "file").write_text(release)
    (tmp_path / "etc").mkdir()
    (tmp_path / "current").symlink_to("r1")
    (tmp_path / "etc" / "file").symlink_to(tmp_path / "current" / "file")
    return tmp_path


@on_loop
async def test_links_are_swapped_anywhere_on_the_path(site: Path) -> None:
    async with watching(site / "etc" / "file") as file:
        relink(site / "current", "r2")
        await file.notices("r2")
        (site / "r2" / "file").write_text("2")
        await file.notices("2")
        (site / "etc" / "file").unlink()
        (site / "etc" / "file").symlink_to(site / "r1" / "file")
        await file.notices("r1")
        relink(site / "current", "r1")  # the same file by another way
        await file.rests()


@on_loop
async def test_directories_are_exchanged_renamed_and_made_again(site: Path) -> None:
    async with watching(site / "etc" / "file") as file:
        exchange(site / "r1", site / "r2")
        await file.notices("r2")
        (site / "r1").rename(site / "r3")
        (site / "r2").rename(site / "r1")
        await file.notices("r1")
        shutil.rmtree(site / "r1")
        await file.rests()
        (site / "r1").mkdir()
        (site / "r1" / "file").write_text("again")
        await file.notices("again")


@on_loop
async def test_a_file_is_written_in_every_way(site: Path) -> None:
    path = site / "r1" / "file"
    os.link(path, site / "twin")
    async with watching(site / "etc" / "file") as file:
        (site / "twin").write_text("through another hard link")
        await file.notices("through another hard link")
        (site / "new").write_text("replaced")
        (site / "new").replace(path)
        await file.notices("replaced")
        (site / "new").write_text("linked")
        path.unlink()
        os.link(site / "new", path)
        await file.notices("linked")
        path.unlink()
        await file.rests()
        path.write_text("removed first")
        await file.notices("removed first")
        os.utime(path)
        path.write_text("removed first")  # the same text
        await file.rests()


@on_loop
async def test_a_file_is_written_without_being_closed(site: Path) -> None:
    path = site / "r1" / "file"
    path.write_text("0" * 100)
    async with watching(site / "etc" / "file") as file:
        with path.open("r+b", buffering=0) as open_file:
            open_file.truncate(50)
            await file.notices("0" * 50)
            open_file.write(b"1")
            await file.notices("1" + "0" * 49)
            with mmap.mmap(open_file.fileno(), 50) as mapped:
                for number in (b"2", b"3"):  # the second store changes no time of the file
                    mapped[:1] = number
                    await file.notices(number.decode() + "0" * 49)


def run(*command: str) -> None:
    subprocess.run(command, check=True)


@pytest.mark.real
@on_loop
async def test_another_directory_is_mounted_on_the_path(site: Path) -> None:
    async with watching(site / "etc" / "file") as file:
        await asyncio.to_thread(run, "mount", "--bind", str(site / "r2"), str(site / "r1"))
        try:
            await file.notices("r2")
        finally:
            await asyncio.to_thread(run, "umount", "--lazy", str(site / "r1"))
        await file.notices("r1")


@on_loop
async def test_an_empty_missing_or_unreadable_file_is_noted_once_and_changes_nothing(
    site: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path, file_path = site / "r1" / "file", site / "etc" / "file"
    spoil: dict[str, Callable[[], object]] = {
        "is empty": path.touch,
        "no such file or directory": lambda: None,
        "is empty: ": lambda: path.write_text("\ufeff \r\n\t\n"),
        "is a directory": path.mkdir,
        "is not a regular file": lambda: os.mkfifo(path),
        "is larger than 8 MiB": lambda: path.write_bytes(bytes(MAX_BYTES + 1)),
        "too many levels of symbolic links": lambda: path.symlink_to(path),
    }

    def noted(words: str) -> bool:
        return bool(caplog.messages) and words in caplog.messages[-1]

    async with watching(file_path) as file:
        for words, change in spoil.items():
            caplog.clear()
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
            change()
            await eventually(partial(noted, words))
            count = len(caplog.messages)
            await file.rests()
            assert len(caplog.messages) == count
            assert not file.noticed
        path.unlink()
        path.write_text("r1")
        await eventually(partial(noted, "has the same text as before again"))
        path.write_text("")
        path.write_text("2")
        await file.notices("2")


@on_loop
async def test_a_text_that_is_written_in_steps_is_noticed_whole(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = site / "r1" / "file"
    async with watching(site / "etc" / "file") as file:
        with path.open("w", buffering=1) as steps:
            for number in range(20):
                steps.write(f"{number}\n")
                await asyncio.sleep(filewatch.WRITING_S / 5)
        await file.notices("".join(f"{number}\n" for number in range(20)))
    # Without events, too.
    monkeypatch.setattr(Inotify, "__init__", _refuse)
    async with watching(site / "etc" / "file") as file:
        with path.open("w", buffering=1) as steps:
            for number in range(40):
                steps.write(f"{number}\n")
                await asyncio.sleep(filewatch.QUIET_S / 4)
        await file.notices("".join(f"{number}\n" for number in range(40)))


def _refuse(*_: object) -> None:
    raise KernelError(errno.EMFILE, "too many inotify instances")


@on_loop
async def test_beyond_the_limits_of_inotify_it_reads_at_intervals(
    site: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Inotify, "__init__", _refuse)
    async with watching(site / "etc" / "file") as file:
        relink(site / "current", "r2")
        await file.notices("r2")
        (site / "r2" / "file").write_text("2")
        await file.notices("2")
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert warnings == [
        f"{site / 'etc' / 'file'}: too many inotify instances: the file is only read every 0.2 s"
    ]


@on_loop
async def test_stopping_does_not_cancel_what_a_change_has_started(site: Path) -> None:
    watched, begun, go_on = Watched(site / "etc" / "file"), asyncio.Event(), asyncio.Event()
    ended: list[bool] = []

    async def changed(_: str) -> None:
        begun.set()
        await go_on.wait()
        ended.append(True)

    watch = FileWatch(watched.path, watched.known, changed)
    watched.path.write_text("2")
    await begun.wait()
    await watch.stop()
    go_on.set()
    await eventually(lambda: ended)


@on_loop
async def test_stopping_ends_a_look_at_the_file(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No task is left behind, and a text that was only seen once is not applied."""
    monkeypatch.setattr(filewatch, "QUIET_S", 3600.0)
    watched = Watched(site / "etc" / "file")
    watched.path.write_text("2")
    watched._known = digest(b"1")
    watch = FileWatch(watched.path, watched.known, watched.changed)
    await eventually(lambda: looks)
    await watch.stop()
    assert not watched.noticed


def test_what_a_path_leads_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("1")
    assert look(tmp_path / "file") == Look(sha256=digest(b"1"))
    (tmp_path / "file").write_text("\n")
    assert look(tmp_path / "file") == Look(problem=f"{tmp_path / 'file'}: is empty")
    assert look(tmp_path / "none") == Look(problem=f"{tmp_path / 'none'}: no such file or directory")
