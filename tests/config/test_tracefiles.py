from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from epaird.config import tracefiles
from epaird.config.tracefiles import UnusableTrace, read


def refusal(path: Path) -> tuple[int, str]:
    with pytest.raises(UnusableTrace) as caught:
        read(path)
    return caught.value.errno, str(caught.value)


def test_a_trace_of_any_allowed_length_is_read(tmp_path: Path) -> None:
    file = tmp_path / "lte.up"
    lines = 1_000_000
    file.write_text("".join(f"{number:08}\n" for number in range(lines)))
    assert file.stat().st_size > 8 << 20
    assert len(read(file)) == lines


def test_a_file_that_is_no_trace_is_refused_in_one_line_with_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing, fifo, wrong, large = (tmp_path / name for name in ("missing", "fifo", "wrong", "large"))
    os.mkfifo(fifo)
    wrong.write_text("1\nsecret\n")
    assert refusal(missing) == (errno.ENOENT, f"{missing}: no such file or directory")
    assert refusal(tmp_path) == (errno.EISDIR, f"{tmp_path}: is a directory")
    assert refusal(fifo) == (errno.EINVAL, f"{fifo}: is not a regular file")
    assert refusal(wrong) == (errno.EINVAL, f"{wrong}: line 2: not a whole number of milliseconds")
    monkeypatch.setattr(tracefiles, "BYTES_MAX", 1 << 20)
    large.write_bytes(b"1\n" * (1 << 20))
    assert refusal(large) == (errno.EFBIG, f"{large}: is larger than 1 MiB, the largest trace allowed")
