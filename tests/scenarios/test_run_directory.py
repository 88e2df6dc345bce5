"""The run directory and its files are removed or replaced under a daemon, which soon has them again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.scenarios.ctl import EPAIRCTL, control_socket, epairctl, run_epairctl
from tests.scenarios.faults import Cable, small_disk
from tests.scenarios.lab import CABLE, EPAIRD, Daemon, Lab
from tests.scenarios.transfers import ping
from tests.waiting import until

pytestmark = pytest.mark.real


def remove_all(directory: Path) -> None:
    """Remove a directory. The daemon may already be creating its own again, which is then left in it."""
    shutil.rmtree(directory, ignore_errors=True)


def empty(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()


def rename(directory: Path) -> None:
    directory.rename(directory.with_name("elsewhere"))


def replace_by_another(directory: Path) -> None:
    rename(directory)
    directory.mkdir(0o755)


def removed(name: str) -> Callable[[Path], None]:
    """Return a function that removes one file, by a pattern of its name."""

    def remove(directory: Path) -> None:
        (path,) = directory.glob(name)
        path.unlink()

    return remove


def replaced(name: str) -> Callable[[Path], None]:
    """Return a function that replaces one file by another of the same text."""

    def replace(directory: Path) -> None:
        path = directory / name
        fresh = directory / "fresh"
        fresh.write_bytes(path.read_bytes())
        fresh.replace(path)

    return replace


HARM = {
    "the directory": remove_all,
    "every file": empty,
    "the directory renamed": rename,
    "the directory replaced": replace_by_another,
    "control.sock": removed("control.sock"),
    "lock": removed("lock"),
    "state.json": removed("state.json"),
    "worker.sock": removed("worker-*.sock"),
    "another lock": replaced("lock"),
    "another state": replaced("state.json"),
}


def is_whole(daemon: Daemon) -> bool:
    """Return whether a daemon of one worker can be reached, found and taken over."""
    names = {"control.sock", "lock", "state.json", f"worker-{daemon.worker()}.sock"}
    directory = control_socket(daemon.lab).parent
    try:
        return names <= {path.name for path in directory.iterdir()} and _is_locked(directory / "lock")
    except FileNotFoundError:
        return False


def _is_locked(lock: Path) -> bool:
    """Return whether a process has a lock on a file."""
    done = subprocess.run(["flock", "--nonblock", str(lock), "true"], check=False)
    return done.returncode != 0


def second(lab: Lab, first: Daemon) -> str:
    """Return the only line of a second daemon, which must not start."""
    other = lab.launch_file(first.file)
    assert other.wait_exit() == 1, other
    (line,) = other.log
    return line


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM.keys())
def test_everything_is_there_again_and_a_successor_takes_over(lab: Lab, harm: Callable[[Path], None]) -> None:
    cable = Cable(lab)
    daemon, directory = cable.daemon, control_socket(lab).parent
    before = cable.page()
    monitor = lab.home.start(EPAIRCTL, "--socket", str(control_socket(lab)), "monitor", "-br")
    epairctl(lab, "list")
    with cable.stream() as stream:
        harm(directory)
        until(lambda: is_whole(daemon), daemon.__repr__)
        assert f"another epaird runs (pid {daemon.pid})" in second(lab, daemon)
        epairctl(lab, "create", "epair1")
        monitor.wait_for_output("epair1a created")
        until(lambda: "epair1a" in (directory / "state.json").read_text())
        worker = daemon.worker()
        daemon.crash()
        cable.restart()
        assert cable.daemon.worker() == worker
        assert cable.daemon.metrics().pairs() == ["epair0", "epair1"]
        row = cable.record("run directory removed, control plane killed", 20_000, before, stream)
    assert row.outcome.lost == 0
    cable.daemon.stop()


def test_the_record_of_namespaces_is_there_again(lab: Lab) -> None:
    """Without it a successor would take the namespaces for those of another program."""
    daemon, record = lab.daemon(CABLE, workers=1), control_socket(lab).with_name("namespaces.json")
    text = record.read_text()
    record.unlink()
    daemon.wait_for_log("the record of namespaces")
    assert record.read_text() == text
    daemon.crash()
    lab.restart(daemon).wait_ready().stop()


def test_a_daemon_is_upgraded_right_after_the_removal(lab: Lab) -> None:
    cable = Cable(lab)
    before, worker = cable.page(), cable.daemon.worker()
    with cable.stream() as stream:
        cable.daemon.signal(signal.SIGUSR2)
        remove_all(control_socket(lab).parent)
        cable.daemon.wait_for_log("upgraded to epaird")
        until(lambda: is_whole(cable.daemon))
        assert cable.daemon.worker() != worker
        assert cable.daemon.metrics().pairs() == ["epair0"]
        assert f"(pid {cable.daemon.pid})" in second(lab, cable.daemon)
        row = cable.record("run directory removed, upgraded", 20_000, before, stream)
    assert row.outcome.lost == 0
    cable.daemon.stop()


def test_the_parent_of_the_directory_is_removed(lab: Lab) -> None:
    parent = lab.directory / "deep" / "er"
    daemon = lab.daemon(CABLE, control_socket=str(parent / "run" / "control.sock"))
    remove_all(parent.parent)
    daemon.wait_for_log("created again")
    until((parent / "run" / "state.json").exists)
    done = subprocess.run(
        [EPAIRCTL, "--socket", str(parent / "run" / "control.sock"), "list"], check=True, capture_output=True
    )
    assert b"epair0a" in done.stdout
    daemon.stop()
    assert not list((parent / "run").iterdir())


def test_a_file_system_is_mounted_on_the_directory_and_unmounted(lab: Lab) -> None:
    """No event reports a mount: it is found at the next check."""
    daemon, directory = lab.daemon(CABLE, workers=1), control_socket(lab).parent
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "epaird-test", str(directory)], check=True)
    try:
        until(lambda: is_whole(daemon), daemon.__repr__)
        assert epairctl(lab, "list")
        assert f"(pid {daemon.pid})" in second(lab, daemon)
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)
    until(lambda: run_epairctl(lab, "list").returncode == 0, daemon.__repr__)
    assert f"(pid {daemon.pid})" in second(lab, daemon)
    until(lambda: is_whole(daemon), daemon.__repr__)
    daemon.stop()


def test_something_else_at_the_path_is_left_alone(lab: Lab) -> None:
    daemon, path = lab.daemon(CABLE), control_socket(lab)
    precious = path.with_name("precious")
    precious.write_text("precious")
    precious.rename(path)
    daemon.wait_for_log("exists and is not a socket")
    assert path.read_text() == "precious"
    assert daemon.healthz() == 200
    path.unlink()
    until(lambda: run_epairctl(lab, "list").returncode == 0, daemon.__repr__)
    assert len(daemon.log_lines_with("not created again yet")) == 1
    daemon.stop()


def test_a_directory_that_others_may_write_to_is_not_used(lab: Lab) -> None:
    daemon, directory = lab.daemon(CABLE), control_socket(lab).parent
    rename(directory)
    directory.mkdir()
    directory.chmod(0o777)
    until(lambda: daemon.log_lines_with("not created again yet") or run_epairctl(lab, "list").returncode == 0)
    directory.chmod(0o755)
    until(lambda: run_epairctl(lab, "list").returncode == 0, daemon.__repr__)
    daemon.stop()


def test_a_second_daemon_never_gets_in_between(lab: Lab) -> None:
    """The directory is removed again and again while second daemons start."""
    daemon, directory = lab.daemon(CABLE, workers=1), control_socket(lab).parent
    ended = threading.Event()

    def remove_again_and_again() -> None:
        while not ended.is_set():
            remove_all(directory)

    remover = threading.Thread(target=remove_again_and_again)
    remover.start()
    try:
        with lab.home.inside():
            command = (EPAIRD, "run", "--config", str(daemon.file))
            others = [
                subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
                for _ in range(4)
            ]
        errors = [other.communicate()[1] for other in others]
    finally:
        ended.set()
        remover.join()
    for other, error in zip(others, errors, strict=True):
        assert other.returncode == 1, error
        assert f"another epaird runs (pid {daemon.pid})" in error
        assert len(error.splitlines()) == 1
    until(lambda: is_whole(daemon), daemon.__repr__)
    until(lambda: run_epairctl(lab, "list").returncode == 0, daemon.__repr__)
    ping(lab["red"], "10.0.0.2")
    daemon.stop()


def test_a_daemon_of_another_namespace_finds_the_lock_again(lab: Lab) -> None:
    daemon, directory = lab.daemon(CABLE), control_socket(lab).parent
    remove_all(directory)
    until(lambda: (directory / "lock").exists() and _is_locked(directory / "lock"))
    other = lab.namespace("other")
    with other.inside():
        done = subprocess.run(
            [EPAIRD, "run", "--config", str(daemon.file)], capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert f"another epaird runs (pid {daemon.pid})" in done.stderr


def test_a_directory_on_a_small_disk_is_emptied(lab: Lab) -> None:
    with small_disk(lab.directory / "run", 128 << 10) as disk:
        daemon = lab.daemon(CABLE, workers=1)
        with contextlib.suppress(FileNotFoundError):
            empty(disk)
        until(lambda: is_whole(daemon), daemon.__repr__)
        os.kill(daemon.worker(), signal.SIGKILL)
        daemon.wait_for_log("again (pid")
        daemon.stop()
