"""Pairs whose frames are held by impairment: none is lost, doubled or reordered, whatever ends or changes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.scenarios.ctl import epairctl
from tests.scenarios.datagram_stream import DatagramStream
from tests.scenarios.lab import Daemon, Lab, pair
from tests.scenarios.transfers import add_neighbour
from tests.waiting import until

pytestmark = pytest.mark.real

RATE = 2_000
DELAY = '\n[epair.epair0.impair]\ndelay = "150ms"\n'


def impaired(lab: Lab, text: str = DELAY, **settings: object) -> Daemon:
    lab.namespace("red", ipv6=False)
    lab.namespace("blue", ipv6=False)
    return lab.daemon(pair(ipv6=False, **settings) + text, workers=1)


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
