from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from epaird.kernel import namespace
from epaird.kernel.netnswatch import EVERY_NAME, NameWatch


def test_names_that_appear_and_disappear_are_reported(tmp_path: Path) -> None:
    with contextlib.closing(NameWatch(str(tmp_path / "netns"))) as watch:
        assert watch.drain() == set()
        (tmp_path / "netns").mkdir()
        assert watch.drain() is EVERY_NAME
        (tmp_path / "netns" / "red").touch()
        assert watch.drain() == {"red"}
        (tmp_path / "netns" / "red").rename(tmp_path / "netns" / "blue")
        assert watch.drain() == {"red", "blue"}
        (tmp_path / "netns" / os.fsdecode(b"x\xff\x1b y")).touch()
        assert watch.drain() == {"x\\xff\\x1b\\x20y"}
        (tmp_path / "netns" / "blue").rename(tmp_path / "blue")
        assert watch.drain() == {"blue"}
        (tmp_path / "other").touch()
        assert watch.drain() == set()
        (tmp_path / "netns").rename(tmp_path / "another")
        assert "red" in watch.drain()
        (tmp_path / "another" / "red").touch()
        assert watch.drain() == set()


@pytest.mark.real
def test_a_namespace_that_appears_and_loses_its_name(new_namespace: Callable[[], str]) -> None:
    with contextlib.closing(NameWatch()) as watch:
        name = new_namespace()
        assert name in watch.drain()
        namespace.remove(name)
        assert name in watch.drain()
