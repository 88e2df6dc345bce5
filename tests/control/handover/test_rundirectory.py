"""The run directory's lock."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

import pytest

from epaird.control.handover.rundirectory import RunDirectory
from epaird.kernel.errors import KernelError


def test_one_daemon_locks_it_and_leaves_nothing(tmp_path: Path) -> None:
    first = RunDirectory(tmp_path / "run")
    with pytest.raises(KernelError) as caught:
        RunDirectory(tmp_path / "run")
    assert caught.value.errno == errno.EBUSY
    assert str(caught.value) == (
        f"{tmp_path / 'run'}: another epaird runs (pid {os.getpid()}): stop it, or set daemon.control_socket "
        "to a path in another directory"
    )
    first.release()
    assert not list((tmp_path / "run").iterdir())
    RunDirectory(tmp_path / "run").release()


def test_the_lock_of_a_daemon_that_died_is_taken(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("1\n")
    RunDirectory(tmp_path).release()


def test_a_process_that_continues_keeps_the_lock(tmp_path: Path) -> None:
    first = RunDirectory(tmp_path)
    passed = os.dup(first.fd)
    first.release(keep=True)
    with pytest.raises(KernelError):
        RunDirectory(tmp_path)
    RunDirectory(tmp_path, passed).release()
    RunDirectory(tmp_path).release()


def test_a_path_that_cannot_be_a_directory_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for wanted in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(KernelError) as caught:
            RunDirectory(wanted)
        assert str(caught.value) == f"daemon.control_socket: {wanted}: Not a directory"


def test_a_directory_that_others_may_write_to_is_refused_in_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(KernelError) as caught:
        RunDirectory(tmp_path)
    assert str(caught.value) == (
        f"daemon.control_socket: {tmp_path} has mode 1777, so that other users could replace the files in "
        "it; a socket in another directory is needed"
    )
    assert not list(tmp_path.iterdir())


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    run = tmp_path / "run"
    run.mkdir()
    (run / "lock").symlink_to(victim)
    with pytest.raises(KernelError, match="symbolic links"):
        RunDirectory(run)
    assert victim.read_text() == "precious"


def test_no_other_user_can_open_the_lock(tmp_path: Path) -> None:
    (tmp_path / "lock").touch(0o644)  # as epaird 0.1.0 left it
    held = RunDirectory(tmp_path)
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600
    held.release()


def test_another_daemon_stays_out_while_the_directory_is_gone(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = RunDirectory(run)
    assert first.held
    shutil.rmtree(run)
    assert not first.held
    with pytest.raises(KernelError, match=rf"another epaird runs \(pid {os.getpid()}\)"):
        RunDirectory(run)
    first.restore()
    assert first.held
    first.release()
    assert not list(run.iterdir())


def test_the_lock_of_another_directory_is_not_removed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = RunDirectory(run)
    run.rename(tmp_path / "elsewhere")
    run.mkdir()
    (run / "lock").write_text("another's")
    first.release()
    assert (run / "lock").read_text() == "another's"
