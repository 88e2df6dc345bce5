"""Impaired pairs whose impairment, schedule, cable, device or namespace ends while frames are held."""

from __future__ import annotations

import contextlib
import functools
import socket
import time
from collections.abc import Callable

import pytest

from tests.scenarios.ctl import epairctl
from tests.scenarios.faults import Cable
from tests.scenarios.lab import CABLE, NAMESPACES, Daemon, Lab, pair
from tests.scenarios.test_adoption import VERSIONED
from tests.scenarios.test_impaired import (
    DELAY,
    kill_control_plane,
    kill_worker,
    stream,
    upgrade,
    wait_until_held,
)
from tests.scenarios.transfers import Sink, add_neighbour, send
from tests.waiting import until

pytestmark = pytest.mark.real

HELD = 700
"""Frames that are held for a minute."""


def stop_and_take_over(lab: Lab, daemon: Daemon) -> Daemon:
    """The control plane is killed, and its successor starts once the impairment should have expired."""
    daemon.crash()
    end = time.monotonic() + 1.2
    until(lambda: time.monotonic() > end)
    return lab.restart(daemon).wait_ready()


def kill_worker_and_upgrade(lab: Lab, daemon: Daemon) -> Daemon:
    return upgrade(lab, kill_worker(lab, daemon))


@pytest.mark.parametrize("fault", [kill_control_plane, stop_and_take_over, kill_worker_and_upgrade])
def test_an_impairment_expires_whatever_ends_meanwhile(
    lab: Lab, fault: Callable[[Lab, Daemon], Daemon]
) -> None:
    daemon = lab.daemon(CABLE, workers=1)
    epairctl(lab, "impair", "epair0", "delay", "1ms", "seed", "7")
    assert "expires in 1s" in epairctl(lab, "impair", "epair0", "for", "1s", "loss", "100%")
    daemon = fault(lab, daemon)
    until(lambda: "loss 100%" not in epairctl(lab, "impair", "epair0"), daemon.__repr__)
    shown = epairctl(lab, "impair", "epair0")
    assert "delay 1ms" in shown
    assert "seed 7" in shown
    assert "expires" not in shown
    daemon.wait_for_log("its impairment expired: set back")


def test_the_schedule_of_the_carrier_goes_on_under_a_successor(lab: Lab) -> None:
    schedule = [{"every": "2s", "for": "1s", "carrier": "off"}]
    daemon = lab.daemon(NAMESPACES + pair(schedule=schedule))

    def off_ns() -> int:
        """Return when the carrier is seen to go off, modulo the period."""
        until(lambda: daemon.metrics().interface("epair0a").carrier, daemon.__repr__)
        until(lambda: not daemon.metrics().interface("epair0a").carrier, daemon.__repr__)
        return time.monotonic_ns() % 2_000_000_000

    before = off_ns()
    for fault in (kill_control_plane, upgrade):
        daemon = fault(lab, daemon)
        apart = abs(off_ns() - before)
        assert min(apart, 2_000_000_000 - apart) < 500_000_000, fault


def test_a_worker_of_an_older_version_is_renewed_and_then_impairs(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration is impaired when a successor takes over a worker that cannot do it."""
    monkeypatch.setenv("EPAIRD_WORKERS", "undescribed")
    cable = Cable(lab, start=functools.partial(lab.launch, wrapper=VERSIONED))
    with cable.stream(2000) as sending:
        cable.wait_for_frames(500)
        cable.daemon.crash()
        with cable.daemon.file.open("a") as file:
            file.write(DELAY)
        cable.restart()
        wait_until_held(cable.daemon)
        outcome = sending.end()
    cable.page()
    assert (outcome.lost, outcome.ordered) == (0, True)


def two_pairs(lab: Lab) -> Daemon:
    """red -> epair0a ... epair1b -> blue hold HELD frames; the halves are patched across two pairs."""
    for name in ("red", "blue", "green", "white"):
        lab.namespace(name, ipv6=False)
    configured = pair(ipv6=False, b={"netns": "$green"}) + pair(1, ipv6=False, a={"netns": "$white"})
    delay = '\n[epair.epair0.a.impair]\ndelay = "60s"\n'
    daemon = lab.daemon(configured + delay, workers=1)
    epairctl(lab, "patch", "--force", "epair0a", "epair1b")
    lladdr = lab["blue"].links("tun")["eth1"].mac
    lab["red"].ip(f"neigh replace 10.0.0.2 dev eth0 lladdr {lladdr} nud permanent")
    hold(lab, daemon)
    return daemon


def hold(lab: Lab, daemon: Daemon) -> None:
    send(lab["red"], "10.0.0.2", 9, range(HELD))
    until(lambda: daemon.metrics().held("epair0a") == HELD, daemon.__repr__)


@pytest.mark.parametrize("end", ["destroyed", "namespace deleted"])
def test_the_receiver_counts_what_a_sender_that_is_gone_left(lab: Lab, end: str) -> None:
    daemon = two_pairs(lab)
    if end == "destroyed":
        epairctl(lab, "destroy", "epair0")
    else:
        lab["red"].remove()
    until(lambda: daemon.metrics().interface("epair1b").ierrors["write_error"] == HELD, daemon.__repr__)
    page = daemon.metrics()
    assert page.interface("epair1b").ipackets == 0
    assert page.interface("epair1b").refs == 1


@pytest.mark.parametrize("end", ["destroyed", "namespace deleted"])
def test_the_line_counts_what_a_receiver_that_is_gone_did_not_get(lab: Lab, end: str) -> None:
    daemon = two_pairs(lab)
    if end == "destroyed":
        epairctl(lab, "destroy", "epair1")
    else:
        lab["blue"].remove()
    until(lambda: daemon.metrics().held("epair0a") == 0, daemon.__repr__)
    page = daemon.metrics()
    assert page.value("epaird_impair_esegments_total", device="epair0a") == HELD
    assert page.value("epaird_impair_osegments_total", device="epair0a") == HELD
    assert page.interface("epair0a").opackets == HELD
    assert "impairment held" in daemon.stderr
    daemon.wait_for_log(f"held {HELD} frames: they are dropped")


def test_an_impaired_cable_that_is_unplugged_and_plugged_again(lab: Lab) -> None:
    """Held frames are counted, later ones are delivered, and the line goes on."""
    lab.namespace("red", ipv6=False)
    lab.namespace("blue", ipv6=False)
    daemon = lab.daemon(pair(ipv6=False) + '\n[epair.epair0.a.impair]\ndelay = "60s"\n', workers=1)
    add_neighbour(lab["red"], lab["blue"], "10.0.0.2", "eth0")
    hold(lab, daemon)
    epairctl(lab, "unpatch", "epair0a")
    assert daemon.metrics().interface("epair0b").ierrors["write_error"] == HELD
    epairctl(lab, "patch", "epair0a", "epair0b")
    epairctl(lab, "impair", "epair0a", "delay", "1ms")
    with Sink(lab["blue"], "10.0.0.2") as sink:
        send(lab["red"], "10.0.0.2", sink.port, range(100))
        sink.await_arrivals(100)
        assert sink.in_order
    page = daemon.at_rest()
    assert page.interface("epair0b").ierrors["write_error"] == HELD
    assert page.value("epaird_impair_osegments_total", device="epair0a") == HELD + 100
    assert page.value("epaird_impair_isegments_total", device="epair0a") == 100
    assert page.value("epaird_impair_esegments_total", device="epair0a") == HELD


def test_a_larger_buffer_applies_while_frames_are_held(lab: Lab) -> None:
    lab.namespace("red", ipv6=False)
    lab.namespace("blue", ipv6=False)
    impair = '\n[epair.epair0.a.impair]\ndelay = "300ms"\nbuffer = "1mb"\n'
    daemon = lab.daemon(pair(ipv6=False) + impair, workers=1)

    def buffer() -> float:
        return daemon.metrics().value("epaird_impair_buffer_bytes", device="epair0a")

    with stream(lab) as sending:
        for size in ("64mb", "2mb", "128mb"):
            wait_until_held(daemon)
            epairctl(lab, "impair", "epair0a", "buffer", size)
            assert daemon.metrics().held("epair0a") > 50
            assert buffer() == int(size.removesuffix("mb")) << 20
        daemon = kill_worker(lab, daemon)
        outcome = sending.end()
    assert (outcome.twice, outcome.ordered) == (0, True)
    page = daemon.at_rest()
    assert outcome.lost == page.interface("epair0b").ierrors["worker_lost"] <= 64


def counter(lab: Lab, netns: str, name: str) -> int:
    """Return a counter of /proc/net/netstat in a namespace."""
    lines = lab[netns].run("cat", "/proc/net/netstat").splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        if name in names.split():
            return int(values.split()[names.split().index(name)])
    raise AssertionError(f"no {name}")


def transfer(lab: Lab, octets: int) -> None:
    """Send so many bytes by TCP from red to blue, as fast as the link takes them."""
    with lab["blue"].socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("10.0.0.2", 0))
        listener.listen()
        out = lab["red"].socket(socket.AF_INET, socket.SOCK_STREAM)
        out.connect(listener.getsockname())
        into, _ = listener.accept()
    sent = received = 0

    def carried() -> bool:
        nonlocal sent, received
        with contextlib.suppress(BlockingIOError):
            while sent < octets:
                sent += out.send(bytes(min(100_000, octets - sent)))
        with contextlib.suppress(BlockingIOError):
            while received < octets:
                received += len(into.recv(1 << 20))
        return received == octets

    with out, into:
        out.setblocking(False)
        into.setblocking(False)
        until(carried, lambda: f"{received} of {sent}")


def test_the_receiver_sees_each_mark_of_a_congested_link(lab: Lab) -> None:
    """CE crosses IP, and TCP tells its sender, which slows down instead of losing."""
    congested = '\n[epair.epair0.a.impair]\nrate = "20mbit"\nqueue = "codel"\necn = true\n'
    for name in ("red", "blue"):
        lab.namespace(name, ipv6=False).write("/proc/sys/net/ipv4/tcp_ecn", "1")
    daemon = lab.daemon(pair(ipv6=False) + congested, workers=1)
    transfer(lab, 4_000_000)
    page = daemon.at_rest()
    marked = page.value("epaird_marked_total", device="epair0a")
    assert marked > 3
    assert counter(lab, "blue", "InCEPkts") == marked
    assert counter(lab, "red", "TCPDeliveredCE") > 0
    assert page.value("epaird_impaired_total", device="epair0a", reason="aqm") == 0
