"""The claim on a run directory by an abstract socket."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from epaird.control.handover import claim
from epaird.control.handover.claim import BACKLOG, Claim, Claimed, name_of

SQUATTER = """
import os, socket, sys
squatter = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
os.setgroups([]); os.setgid(65534); os.setuid(65534)
squatter.bind(b"\\0" + sys.argv[1].encode())
squatter.listen(int(sys.argv[2]))
print("ready", flush=True)
sys.stdin.read()
"""


def test_one_process_claims_a_directory_whether_it_exists_or_not(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    held = Claim(directory)
    for change in (directory.mkdir, directory.rmdir, lambda: None):
        change()
        with pytest.raises(Claimed) as caught:
            Claim(directory)
        assert caught.value.pid == os.getpid()
    Claim(tmp_path / "other").close()
    held.close()
    held.close()
    Claim(directory).close()


def test_the_name_is_that_of_the_path_without_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert name_of(tmp_path / "link" / "run") == name_of(tmp_path / "real" / "run")
    assert name_of(tmp_path / "real" / "run") != name_of(tmp_path / "run")
    before = name_of(tmp_path / "real" / "run")
    shutil.rmtree(tmp_path / "real")
    assert name_of(tmp_path / "real" / "run") == before


def test_a_copy_keeps_the_claim(tmp_path: Path) -> None:
    held = Claim(tmp_path)
    copy = os.dup(held.fileno())
    held.close()
    with pytest.raises(Claimed):
        Claim(tmp_path)
    passed = Claim(tmp_path, copy)
    assert passed.fileno() == copy
    passed.close()
    Claim(tmp_path).close()


def test_whoever_asks_often_is_answered(tmp_path: Path) -> None:
    held = Claim(tmp_path)
    for _ in range(3):
        for _ in range(BACKLOG):
            with pytest.raises(Claimed):
                Claim(tmp_path)
        held.answer()
    held.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be another user")
@pytest.mark.parametrize("backlog", [5, 0], ids=["answers", "never answers"])
def test_the_socket_of_another_user_blocks_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, backlog: int
) -> None:
    monkeypatch.setattr(claim, "PATIENCE_S", 0.05)
    name = name_of(tmp_path)
    squatter = subprocess.Popen(
        [sys.executable, "-c", SQUATTER, name[1:].decode(), str(backlog)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert squatter.stdout is not None
    assert squatter.stdout.readline() == "ready\n"
    waiting = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(backlog == 0)]
    for each in waiting:
        each.connect(name)
    with caplog.at_level(logging.WARNING):
        held = Claim(tmp_path)
    assert held.fileno() == -1
    assert [record.getMessage() for record in caplog.records] == [
        f"another user's process has the abstract socket {name[1:].decode()}: a second daemon is noticed by "
        "the lock only"
    ]
    held.answer()
    held.close()
    for each in waiting:
        each.close()
    squatter.communicate()
