"""A worker that leaves anything in the ring of an impaired pair ends no other worker, and no other pair."""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from epaird.ipc.ringfile import DECISIONS, INTAKE, PAGE, RELEASE, TABLE
from tests.scenarios.ctl import epairctl
from tests.scenarios.lab import Daemon, Lab, pair
from tests.scenarios.test_impaired import upgrade
from tests.scenarios.transfers import Sink, add_neighbour, send
from tests.waiting import until

pytestmark = pytest.mark.real

HELD, MORE = 300, 5
QUEUE = '\n[epair.epair0.a.impair]\ndelay = "60s"\nrate = "100mbit"\nqueue = "codel"\n'


def poison(daemon: Daemon, places: list[tuple[int, int, int]]) -> None:
    """Write words to the ring of epair0a, as any process that once had it can."""
    (ring,) = (
        link
        for link in Path(f"/proc/{daemon.process.pid}/fd").iterdir()
        if "ring-epair0a" in str(link.readlink())
    )
    fd = os.open(ring, os.O_RDWR)
    for page, word, number in places:
        os.pwrite(fd, struct.pack("=Q", number), page * PAGE + 8 * word)
    os.close(fd)


def kill(lab: Lab, daemon: Daemon) -> Daemon:
    del lab
    os.kill(daemon.worker(), signal.SIGKILL)
    daemon.wait_for_log("cables again")
    return daemon


def both(page: int, word: int, number: int) -> list[tuple[int, int, int]]:
    """Return a word of both copies of a state."""
    return [(page, word, number), (page + 1, word, number)]


STATE = both(RELEASE, 0, (1 << 64) - 1)
RECORDS = [(TABLE, word, (1 << 64) - 1) for word in range(16)]
BUSY_FOR_EVER = both(INTAKE, DECISIONS + 4, (1 << 64) - 1)


@pytest.mark.parametrize(
    ("fault", "places", "lost"),
    [(kill, STATE, HELD), (kill, BUSY_FOR_EVER, 0), (upgrade, STATE, HELD), (upgrade, RECORDS, HELD)],
)
def test_a_pair_whose_ring_is_poisoned_forwards_again(
    lab: Lab, fault: Callable[[Lab, Daemon], Daemon], places: list[tuple[int, int, int]], lost: int
) -> None:
    lab.namespace("red", ipv6=False)
    lab.namespace("blue", ipv6=False)
    daemon = lab.daemon(pair(ipv6=False) + pair(1, ipv6=False) + QUEUE, workers=1)
    add_neighbour(lab["red"], lab["blue"], "10.0.0.2", "eth0")
    add_neighbour(lab["red"], lab["blue"], "10.0.1.2", "eth1")
    send(lab["red"], "10.0.0.2", 9, range(HELD))
    until(lambda: daemon.metrics().held("epair0a") == HELD, daemon.__repr__)
    poison(daemon, places)
    with Sink(lab["blue"], "10.0.1.2") as beside:
        send(lab["red"], "10.0.1.2", beside.port, range(100))
        daemon = fault(lab, daemon)
        send(lab["red"], "10.0.1.2", beside.port, range(100, 200))
        beside.await_arrivals(200)
        assert beside.in_order
    page = daemon.metrics()
    assert page.held("epair0a") == HELD - lost
    assert page.interface("epair0b").ierrors["write_error"] == lost
    assert page.value("epaird_impair_osegments_total", device="epair0a") == HELD
    send(lab["red"], "10.0.0.2", 9, range(MORE))
    until(lambda: daemon.metrics().held("epair0a") == HELD - lost + MORE, daemon.__repr__)
    epairctl(lab, "unpatch", "epair0a")
    epairctl(lab, "patch", "epair0a", "epair0b")
    epairctl(lab, "impair", "epair0a", "off")
    with Sink(lab["blue"], "10.0.0.2") as sink:
        send(lab["red"], "10.0.0.2", sink.port, range(100))
        sink.await_arrivals(100)
    assert daemon.at_rest().interface("epair0b").ierrors["write_error"] == HELD + MORE
    pid = daemon.worker()
    assert len(daemon.log_lines_with("the frames that impairment held are lost")) == bool(lost)
    assert len(daemon.log_lines_with("cables again")) == (fault is kill), "no other worker has died"
    assert daemon.worker() == pid
