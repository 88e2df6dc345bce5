"""Pairs whose frames are held by impairment: none is lost, doubled or reordered, whatever ends or changes."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.manager import ServiceManager
from tests.scenarios.ctl import epairctl
from tests.scenarios.datagram_stream import DatagramStream
from tests.scenarios.faults import ManagedDaemon
from tests.scenarios.lab import Daemon, Lab, pair
from tests.scenarios.transfers import add_neighbour
from tests.waiting import until

pytestmark = pytest.mark.real

RATE = 2_000
DELAY = '\n[epair.epair0.impair]\ndelay = "150ms"\n'


def impaired(lab: Lab, text: str = DELAY) -> Daemon:
    lab.namespace("red", ipv6=False)
    lab.namespace("blue", ipv6=False)
    return lab.daemon(pair(ipv6=False) + text, workers=1)


def stream(lab: Lab) -> DatagramStream:
    add_neighbour(lab["red"], lab["blue"], "10.0.0.2", "eth0")
    return DatagramStream(lab["red"], lab["blue"], "10.0.0.2", RATE)


def wait_until_held(daemon: Daemon, frames: int = 100) -> None:
    until(lambda: daemon.metrics().held("epair0a") > frames, daemon.__repr__)


def kill_worker(lab: Lab, daemon: Daemon) -> Daemon:
    del lab
    os.kill(daemon.worker(), signal.SIGKILL)
    daemon.wait_for_log("forwards")
    return daemon


def kill_control_plane(lab: Lab, daemon: Daemon) -> Daemon:
    daemon.crash()
    return lab.restart(daemon).wait_ready()


def upgrade(lab: Lab, daemon: Daemon) -> Daemon:
    epairctl(lab, "upgrade")
    daemon.wait_for_log("upgraded to epaird")
    return daemon


@pytest.mark.parametrize("fault", [kill_worker, kill_control_plane, upgrade])
def test_nothing_that_is_held_is_lost(lab: Lab, fault: Callable[[Lab, Daemon], Daemon]) -> None:
    daemon = impaired(lab)
    with stream(lab) as sending:
        wait_until_held(daemon)
        daemon = fault(lab, daemon)
        wait_until_held(daemon)
        outcome = sending.end()
    assert outcome.twice == 0
    assert outcome.ordered
    page = daemon.at_rest()
    errors = page.interface("epair0b").ierrors
    assert outcome.lost == errors["worker_lost"]
    assert errors["worker_lost"] <= 64, "at most the burst in hand"
    assert page.held("epair0a") == 0


def test_nothing_that_is_held_is_lost_when_every_process_dies(lab: Lab) -> None:
    """As under systemd, the rings are in the manager's store."""
    with ServiceManager(str(lab.directory / "notify")) as manager:
        for name in ("red", "blue"):
            lab.namespace(name, ipv6=False)
        file = lab.configuration(pair(ipv6=False) + DELAY, workers=1)
        with managed(lab, file, manager) as daemon, stream(lab) as sending:
            until(lambda: {"epair0a.line", "epair0b.line"} <= stored(manager), lambda: stored(manager))
            wait_until_held(daemon)
            for pid in (daemon.pid, *lab.processes("epaird.dataplane")):
                os.kill(pid, signal.SIGKILL)
            sending.pause()  # a start may take longer than the kernel's rings last
            daemon.wait_exit()
            until(lambda: not lab.processes("epaird"))
            with managed(lab, file, manager) as successor:
                sending.go()
                wait_until_held(successor)
                outcome = sending.end()
                page = successor.at_rest()
                successor.stop()
    assert (outcome.twice, outcome.ordered) == (0, True)
    errors = page.interface("epair0b").ierrors
    assert outcome.lost == errors["worker_lost"] == sum(errors.values())
    assert errors["worker_lost"] <= 64, "at most the burst in hand"


@contextlib.contextmanager
def managed(lab: Lab, file: Path, manager: ServiceManager) -> Iterator[Daemon]:
    """Run a daemon as a service until the end of the block."""
    daemon = ManagedDaemon(lab, file, manager)
    try:
        yield daemon.wait_ready()
    finally:
        daemon.kill()


def stored(manager: ServiceManager) -> set[str]:
    """Return the names of the descriptors that the manager keeps."""
    manager.receive_all()
    return {name for name, _ in manager.unit.stored}


def test_a_change_in_place_loses_and_reorders_nothing(lab: Lab) -> None:
    daemon = impaired(lab)
    with stream(lab) as sending:
        wait_until_held(daemon)
        for delay in ("10ms", "200ms", "20ms"):
            daemon.edit_file(daemon.file.read_text().rsplit('"', 2)[1], delay)
            epairctl(lab, "reload")
        daemon.edit_file('\n[epair.epair0.impair]\ndelay = "20ms"\n', "")
        epairctl(lab, "reload")
        until(lambda: daemon.metrics().held("epair0a") == 0, daemon.__repr__)
        outcome = sending.end()
    assert (outcome.lost, outcome.ordered) == (0, True)
    daemon.at_rest()


def test_what_is_held_when_the_cable_is_unplugged_is_counted(lab: Lab) -> None:
    daemon = impaired(lab)
    with stream(lab) as sending:
        wait_until_held(daemon)
        epairctl(lab, "unpatch", "epair0a")
        daemon.wait_for_log("unplugged while impairment held")
        epairctl(lab, "patch", "epair0a", "epair0b")
        wait_until_held(daemon)
        outcome = sending.end()
    page = daemon.at_rest()
    a, b = page.interface("epair0a"), page.interface("epair0b")
    assert b.ierrors["write_error"] > 50
    assert outcome.ordered
    assert outcome.received == b.ipackets
    assert a.opackets == b.ipackets + b.ierrors["write_error"]
    assert page.value("epaird_impair_esegments_total", device="epair0a") == b.ierrors["write_error"]
