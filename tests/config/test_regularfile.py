"""Files whose paths come from outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from epaird.config.regularfile import beginning


def test_the_beginning_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    assert beginning(tmp_path / "file", 3) == b"123"
    assert beginning(tmp_path / "link", 9) == b"12345"


def test_nothing_but_a_regular_file_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/null")):
        with pytest.raises(OSError, match="is not a regular file"):
            beginning(path, 10)
    with pytest.raises(IsADirectoryError):
        beginning(tmp_path, 10)
    with pytest.raises(FileNotFoundError):
        beginning(tmp_path / "none", 10)
    with pytest.raises(ValueError, match="null"):
        beginning("a\0b", 10)
