"""Every end of the daemon and the death of any process leave nothing behind, and the books balance."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.scenarios.lab import CABLE, NAMESPACES, Daemon, Lab, pair
from tests.scenarios.transfers import BLUE, RED, Flood, Sink, add_neighbour, ping
from tests.waiting import until

pytestmark = pytest.mark.real

MANY = 60


@pytest.mark.parametrize("end", [Daemon.ctrl_c, Daemon.stop], ids=["Ctrl-C", "SIGTERM"])
def test_it_ends_under_traffic_and_leaves_nothing(lab: Lab, end: Callable[[Daemon], None]) -> None:
    daemon = lab.daemon(NAMESPACES + pair(0) + pair(1))
    red, blue = lab["red"], lab["blue"]
    server = blue.start("iperf3", "-s", "--forceflush")
    server.wait_for_output("listening")
    stream = red.start("iperf3", "-c", "10.0.1.2", "-t", "60", "--forceflush")
    stream.wait_for_output("sec")
    with Flood(red, BLUE) as to_blue, Flood(blue, RED) as to_red:
        to_blue.wait_for_frames()
        to_red.wait_for_frames()
        end(daemon)
        daemon.assert_clean_exit(0)
    assert daemon.log[-1] == "stopping"


def workers_started(lab: Lab) -> bool:
    """A worker process exists."""
    return bool(lab.processes("epaird.dataplane"))


def namespace_made(lab: Lab) -> bool:
    """The daemon has created a namespace."""
    return lab["red"].exists


def some_devices_made(lab: Lab) -> bool:
    """The daemon has moved some devices into their namespaces."""
    return len(lab["blue"].links("tun")) > 10 if lab["blue"].exists else False


@pytest.mark.parametrize("reached", [workers_started, namespace_made, some_devices_made])
def test_ctrl_c_during_start_up_leaves_nothing(lab: Lab, reached: Callable[[Lab], bool]) -> None:
    daemon = lab.launch(NAMESPACES + "".join(pair(unit, ipv6=False) for unit in range(MANY)))
    until(lambda: reached(lab), daemon.__repr__)
    daemon.ctrl_c()
    daemon.assert_clean_exit(0)
    assert daemon.log == ["stopping"]


def test_ctrl_c_before_anything_is_made_leaves_nothing(lab: Lab) -> None:
    daemon = lab.launch(CABLE)
    daemon.ctrl_c()
    assert daemon.wait_exit() != 0
    assert not lab.leftovers()


def test_a_second_ctrl_c_does_no_harm(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + "".join(pair(unit, ipv6=False) for unit in range(10)))
    daemon.ctrl_c()
    daemon.wait_for_log("stopping")
    daemon.ctrl_c()
    daemon.assert_clean_exit(0)


def test_many_pairs_are_taken_down(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + "".join(pair(unit, ipv6=False) for unit in range(MANY)))
    assert len(daemon.metrics().devices()) == 2 * MANY
    ping(lab["red"], f"10.0.{MANY - 1}.2")
    daemon.at_rest()
    daemon.assert_sleeps()


def test_a_worker_killed_under_traffic_is_replaced(lab: Lab) -> None:
    daemon = lab.daemon(CABLE, workers=1)
    red, blue = lab["red"], lab["blue"]
    add_neighbour(red, blue, BLUE)
    with Sink(blue, BLUE) as sink, Flood(red, BLUE, sink.port), Flood(blue, RED):
        sink.await_arrivals(100)
        for restarts in (1, 2):
            killed, before = daemon.worker(), daemon.metrics()
            os.kill(killed, signal.SIGKILL)
            daemon.wait_for_log_lines("forwards 1 cable", restarts)
            sink.await_arrivals(len(sink.arrived()) + 100)
            after = daemon.metrics()
            assert after.worker().restarts == restarts
            assert after.worker().cpu_seconds >= before.worker().cpu_seconds
            for device in ("epair0a", "epair0b"):
                assert not after.interface(device).goes_back(before.interface(device))
            assert daemon.worker() != killed
            assert daemon.log_lines_with(f"worker 0 (pid {killed}) ended: killed by SIGKILL")
    page = daemon.at_rest()
    assert sink.in_order
    for device in ("epair0a", "epair0b"):
        assert page.interface(device).ierrors["worker_lost"] <= 2 * 64


def test_one_worker_killed_leaves_the_others_pairs_alone(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + pair(0) + pair(1) + pair(2), workers=2)
    red, blue = lab["red"], lab["blue"]
    page = daemon.metrics()
    by_worker = {page.interface(f"{each}a").worker for each in page.pairs()}
    for count, pid in enumerate(daemon.workers(), 1):
        os.kill(pid, signal.SIGKILL)
        daemon.wait_for_log(f"(pid {pid}) ended")
        daemon.wait_for_log_lines("again", count)
    for unit in range(3):
        ping(red, f"10.0.{unit}.2")
        ping(blue, f"10.0.{unit}.1")
    daemon.at_rest()
    assert daemon.healthz() == 200
    assert by_worker


def test_a_daemon_that_was_killed_leaves_its_namespaces_to_the_next(lab: Lab) -> None:
    killed = lab.daemon(CABLE, orphan_timeout=0)
    killed.crash()
    until(lambda: not lab.processes("epaird"))
    assert lab["red"].exists
    until(lambda: not lab["red"].links("tun"))
    daemon = lab.restart(killed).wait_ready()
    for name in ("red", "blue"):
        assert daemon.log_lines_with(f"namespace {lab[name]}: taken over")
    ping(lab["red"], BLUE)
    daemon.at_rest()
    daemon.stop()
