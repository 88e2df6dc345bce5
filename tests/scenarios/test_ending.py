"""SIGTERM ends the daemon within a bound, whatever it waits for, and its devices are gone or kept."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from epaird.control import ending
from tests.scenarios.ctl import epairctl
from tests.scenarios.dead_file_system import dead_file_system, waits_in_it
from tests.scenarios.lab import CABLE, NAMESPACES, Daemon, Lab, pair
from tests.waiting import until

pytestmark = pytest.mark.real

STILL = "ending without waiting for it"


@contextlib.contextmanager
def stopped_worker(daemon: Daemon) -> Iterator[int]:
    """Stop the only worker of a daemon for the block."""
    worker = daemon.worker()
    os.kill(worker, signal.SIGSTOP)
    try:
        yield worker
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGCONT)


def assert_gone(lab: Lab) -> None:
    """Check that no process and no device is left, and no state that a successor would believe."""
    until(lambda: not lab.processes("epaird"))
    until(lambda: not any(lab[name].links("tun") for name in ("red", "blue") if lab[name].exists))
    assert not (lab.directory / "run" / "state.json").exists()


def assert_given_up(daemon: Daemon, words: str) -> None:
    """Check that the daemon has ended without waiting, said for what, and left nothing that forwards."""
    assert daemon.wait_exit() == ending.OVERDUE
    (line,) = daemon.log_lines_with(STILL)
    assert words in line
    assert_gone(daemon.lab)


def test_a_worker_that_never_answers(lab: Lab) -> None:
    daemon = lab.daemon(CABLE, workers=1, worker_timeout=0)
    with stopped_worker(daemon):
        daemon.signal(signal.SIGTERM)
        assert_given_up(daemon, "not ended in time: still destroying interfaces")


def test_the_second_signal_ends_it_at_once(lab: Lab) -> None:
    daemon = lab.daemon(CABLE, workers=1, worker_timeout=0)
    with stopped_worker(daemon):
        daemon.signal(signal.SIGTERM)
        daemon.wait_for_log("stopping")
        daemon.signal(signal.SIGTERM)  # so soon after the first one it is the same request

        def ended() -> bool:
            daemon.signal(signal.SIGINT)
            return not daemon.running

        until(ended)
        assert_given_up(daemon, "SIGINT again: still destroying interfaces")


def test_kept_devices_are_kept_all_the_same(lab: Lab) -> None:
    daemon = lab.daemon(CABLE, workers=1, worker_timeout=0, keep_devices=True)
    assert daemon.running
    with stopped_worker(daemon):
        daemon.signal(signal.SIGTERM)
        assert daemon.wait_exit() == 0
    assert lab["red"].links("tun")
    successor = lab.restart(daemon).wait_ready()
    assert successor.log_lines_with("taken over from a daemon that ended: 2 interfaces, 1 of 1 workers")
    successor.edit_file("keep_devices = true", "keep_devices = false")
    epairctl(lab, "reload")
    successor.stop()


def test_a_loop_that_is_blocked(lab: Lab) -> None:
    """The path of a namespace is looked up by the main thread."""
    names = lab.directory / "names"
    names.mkdir()
    (names / "red").symlink_to(f"/run/netns/{lab.namespace('red').name}")
    daemon = lab.daemon(f'[epair.epair0]\na.netns = "{names}/red"\n', workers=1)
    with dead_file_system(names):
        until(lambda: waits_in_it(daemon.pid))
        daemon.signal(signal.SIGTERM)
        assert_given_up(daemon, "not ended in time: still running")


@pytest.mark.parametrize("request_", ["reload", "plan"])
def test_clients_that_neither_read_nor_write(lab: Lab, request_: str) -> None:
    daemon = lab.daemon(CABLE)
    path = str(lab.directory / "run" / "control.sock")
    with contextlib.ExitStack() as stack:
        for sent in (
            b"",
            b"GET /v1/events HTTP/1.1\r\nhost: a\r\n\r\n",
            b"GET /v1/interfaces HTTP/1.1\r\nhost: a\r\n\r\n" * 1000,
            f"POST /v1/{request_} HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n{{".encode(),
        ):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            client.connect(path)
            with contextlib.suppress(BlockingIOError):
                client.send(sent)
        daemon.signal(signal.SIGTERM)
        daemon.assert_clean_exit(0)


def test_a_successor_that_is_stopped_while_it_takes_over_takes_everything_down(lab: Lab) -> None:
    text = NAMESPACES + "".join(pair(unit, ipv6=False) for unit in range(40))
    daemon = lab.daemon(text, workers=1)
    daemon.crash()
    successor = lab.restart(daemon)
    until(lambda: (lab.directory / "run" / "lock").read_text().strip() == str(successor.pid))
    until(lambda: _catches(successor.pid, signal.SIGTERM))
    successor.signal(signal.SIGTERM)
    successor.assert_clean_exit(0)


def test_with_keep_devices_it_leaves_everything(lab: Lab) -> None:
    text = NAMESPACES + "".join(pair(unit, ipv6=False) for unit in range(40))
    daemon = lab.daemon(text, workers=1, keep_devices=True)
    daemon.crash()
    successor = lab.restart(daemon)
    until(lambda: _catches(successor.pid, signal.SIGTERM))
    successor.signal(signal.SIGTERM)
    assert successor.wait_exit() == 0
    third = lab.restart(daemon).wait_ready()
    assert len(lab["red"].links("tun")) == 40
    third.edit_file("keep_devices = true", "keep_devices = false")
    epairctl(lab, "reload")
    third.stop()


def test_a_takeover_from_an_orphan_that_does_not_answer(lab: Lab) -> None:
    daemon = lab.daemon(CABLE, workers=1)
    worker = daemon.worker()
    daemon.crash()
    os.kill(worker, signal.SIGSTOP)
    successor = lab.restart(daemon)
    until(lambda: _catches(successor.pid, signal.SIGTERM))
    successor.signal(signal.SIGTERM)
    successor.assert_clean_exit(0)


@pytest.mark.parametrize("tenths", [0, 1, 2, 3, 5])
def test_a_signal_at_any_moment_of_an_upgrade_takes_everything_down(lab: Lab, tenths: int) -> None:
    daemon = lab.daemon(CABLE, workers=1)
    epairctl(lab, "upgrade")
    with contextlib.suppress(subprocess.TimeoutExpired):  # any moment will do
        daemon.process.wait(tenths / 10)
    daemon.signal(signal.SIGTERM)
    daemon.assert_clean_exit(0)


@pytest.mark.parametrize("watch", [False, True])
def test_a_configuration_that_cannot_be_read_any_more(lab: Lab, watch: bool) -> None:
    directory = lab.directory / "etc"
    directory.mkdir()
    file = lab.configuration(CABLE, watch=watch).rename(directory / "epaird.toml")
    daemon = lab.launch_file(file).wait_ready()
    with dead_file_system(directory):
        daemon.signal(signal.SIGHUP)
        until(lambda: waits_in_it(daemon.pid))
        assert daemon.healthz() == 200
        assert "epair0a" in epairctl(lab, "create", "epair7") + epairctl(lab, "list")  # the lock is free
        daemon.signal(signal.SIGTERM)
        assert daemon.wait_exit() == 0
    assert daemon.log[-1] == "stopping"
    assert not lab.leftovers()


def _catches(pid: int, number: int) -> bool:
    """Return whether a process has a handler for a signal."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) & 1 << (number - 1))
