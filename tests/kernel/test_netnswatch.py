from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable
from pathlib import Path

import pytest

from epaird.kernel import namespace
from epaird.kernel.errors import KernelError
from epaird.kernel.netnswatch import NameWatch
from tests.kernel.openfiles import open_files


def readable(watch: NameWatch) -> bool:
    return bool(select.select([watch.fileno()], [], [], 0)[0])


def test_a_removed_name_is_reported(tmp_path: Path) -> None:
    with contextlib.closing(NameWatch(str(tmp_path))) as watch:
        watch.drain()
        (tmp_path / "red").touch()
        assert not readable(watch)
        (tmp_path / "red").unlink()
        (tmp_path / "blue").touch()
        (tmp_path / "blue").rename(tmp_path.parent / "blue")
        assert readable(watch)
        watch.drain()
        assert not readable(watch)


def test_a_missing_directory(tmp_path: Path) -> None:
    before = open_files()
    with pytest.raises(KernelError, match="No such file or directory"):
        NameWatch(str(tmp_path / "none"))
    assert open_files() == before


def test_closing_may_be_repeated(tmp_path: Path) -> None:
    watch = NameWatch(str(tmp_path))
    descriptor = watch.fileno()
    watch.close()
    watch.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.real
def test_a_namespace_that_loses_its_name(new_namespace: Callable[[], str]) -> None:
    name = new_namespace()
    with contextlib.closing(NameWatch()) as watch:
        namespace.remove(name)
        assert readable(watch)
