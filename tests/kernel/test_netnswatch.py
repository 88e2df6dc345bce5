from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from epaird.kernel import namespace
from epaird.kernel.netnswatch import NameWatch


def test_names_that_appear_and_disappear_are_reported(tmp_path: Path) -> None:
    with contextlib.closing(NameWatch(str(tmp_path / "netns"))) as watch:
        assert not watch.drain()
        (tmp_path / "netns").mkdir()
        assert watch.drain()
        (tmp_path / "netns" / "red").touch()
        assert watch.drain()
        (tmp_path / "netns" / "red").rename(tmp_path / "netns" / "blue")
        assert watch.drain()
        (tmp_path / "netns" / "blue").rename(tmp_path / "blue")
        assert watch.drain()
        (tmp_path / "other").touch()
        assert not watch.drain()


@pytest.mark.real
def test_a_namespace_that_appears_and_loses_its_name(new_namespace: Callable[[], str]) -> None:
    with contextlib.closing(NameWatch()) as watch:
        name = new_namespace()
        assert watch.drain()
        namespace.remove(name)
        assert watch.drain()
