"""Files that are written, replaced and linked, as by editors and deployments."""

from __future__ import annotations

from pathlib import Path

import pytest

from epaird.control.reloading.filewatch import FileWatch
from epaird.kernel.errors import KernelError
from tests.loop import on_loop
from tests.waiting import eventually


class Seen:
    """Counts calls."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1

    async def again(self) -> None:
        """Wait until it has been called since the last time."""
        await eventually(lambda: self.times)
        self.times = 0


@on_loop
async def test_written_in_place_or_replaced(tmp_path: Path) -> None:
    file, seen = tmp_path / "file", Seen()
    file.write_text("1")
    watch = FileWatch(file, seen)
    file.write_text("2")
    await seen.again()
    (tmp_path / "new").write_text("3")
    await seen.again()
    (tmp_path / "new").replace(file)
    await seen.again()
    file.unlink()
    file.write_text("4")
    await seen.again()
    watch.close()


@on_loop
async def test_the_target_of_a_link_is_watched_even_after_the_link_is_replaced(tmp_path: Path) -> None:
    seen = Seen()
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "file").write_text(version)
    (tmp_path / "etc").mkdir()
    link = tmp_path / "etc" / "file"
    link.symlink_to(tmp_path / "v1" / "file")
    watch = FileWatch(link, seen)
    (tmp_path / "v1" / "file").write_text("changed")
    await seen.again()
    (tmp_path / "etc" / "new").symlink_to(tmp_path / "v2" / "file")
    (tmp_path / "etc" / "new").replace(link)
    await seen.again()
    (tmp_path / "v2" / "file").write_text("changed")
    await seen.again()
    watch.close()


@on_loop
async def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="No such file or directory"):
        FileWatch(tmp_path / "none" / "file", Seen())
