"""User traffic over a cable: it arrives unchanged, and every frame is accounted for."""

from __future__ import annotations

import json

import pytest

from tests.scenarios.lab import CABLE, NAMESPACES, Lab, pair
from tests.scenarios.transfers import (
    BLUE,
    BLUE6,
    RED,
    RED6,
    Capture,
    datagrams,
    ping,
    tcp,
)

pytestmark = pytest.mark.real

MEGABYTES_100 = 100_000_000


def test_ping_crosses_both_ways(lab: Lab) -> None:
    daemon = lab.daemon(CABLE)
    ping(lab["red"], BLUE)
    ping(lab["blue"], RED)
    ping(lab["red"], BLUE, "-s", "1472", "-M", "do")
    page = daemon.at_rest()
    assert page.interface("epair0a").opackets >= 15
    assert page.interface("epair0b").opackets >= 15


def test_ping6_crosses_both_ways(lab: Lab) -> None:
    daemon = lab.daemon(CABLE)
    for name in ("red", "blue"):
        lab[name].wait_for_dad("eth0")
    ping(lab["red"], BLUE6)
    ping(lab["blue"], RED6, "-s", "1452", "-M", "do")
    ping(lab["red"], "ff02::1%eth0")
    daemon.at_rest()


def test_the_suggested_command_works(lab: Lab) -> None:
    daemon = lab.daemon(CABLE)
    (line,) = daemon.log_lines_with("try:")
    command = line.removeprefix("try:").split()
    assert command == ["ip", "netns", "exec", str(lab["red"]), "ping", BLUE]
    assert " 0% packet loss" in lab.home.run(*command, "-c", "2", "-i", "0.01")


@pytest.mark.parametrize("offload", [True, False], ids=["offload", "no offload"])
def test_100_megabytes_by_tcp_each_way_arrive_unchanged(lab: Lab, offload: bool) -> None:
    daemon = lab.daemon(NAMESPACES + pair(offload=offload))
    tcp(lab["red"], lab["blue"], BLUE, MEGABYTES_100)
    tcp(lab["blue"], lab["red"], RED, MEGABYTES_100)
    page = daemon.at_rest()
    for device in ("epair0a", "epair0b"):
        assert page.interface(device).obytes > MEGABYTES_100
        assert page.interface(device).ibytes > MEGABYTES_100


@pytest.mark.parametrize("address", [BLUE, BLUE6])
def test_100000_datagrams_arrive_once_and_in_order(lab: Lab, address: str) -> None:
    daemon = lab.daemon(CABLE)
    lab["red"].wait_for_dad("eth0")
    lab["blue"].wait_for_dad("eth0")
    datagrams(lab["red"], lab["blue"], address, 100_000)
    assert daemon.at_rest().interface("epair0b").ipackets >= 100_000


def test_iperf3_runs_both_ways_at_once(lab: Lab) -> None:
    daemon = lab.daemon(CABLE)
    server = lab["blue"].start("iperf3", "-s", "-1", "--forceflush")
    server.wait_for_output("listening")
    report = json.loads(lab["red"].run("iperf3", "-c", BLUE, "-J", "-n", "50M", "--bidir"))
    assert report["end"]["sum_received"]["bytes"] > 0
    assert report["end"]["sum_received_bidir_reverse"]["bytes"] > 0
    assert server.wait_exit() == 0
    daemon.at_rest()


@pytest.mark.parametrize("mtu", [9000, 65521])
def test_jumbo_frames(lab: Lab, mtu: int) -> None:
    daemon = lab.daemon(NAMESPACES + pair(a={"mtu": mtu}, b={"mtu": mtu}))
    red, blue = lab["red"], lab["blue"]
    ping(red, BLUE, "-s", str(mtu - 28), "-M", "do")
    datagrams(blue, red, RED, 2000, size=mtu - 28, window=20)
    tcp(red, blue, BLUE, 20_000_000)
    daemon.at_rest()


def test_super_frames_cross_whole(lab: Lab) -> None:
    daemon = lab.daemon(CABLE)
    with Capture(lab["blue"], "eth0", "tcp and dst host 10.0.0.2") as capture:
        tcp(lab["red"], lab["blue"], BLUE, 5_000_000)
        assert max(capture.lengths(5_000_000)) > 30_000
    page = daemon.at_rest()
    assert page.interface("epair0a").opackets < 5_000_000 / 1500


def test_without_offload_no_frame_is_a_super_frame(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + pair(offload=False))
    with Capture(lab["blue"], "eth0", "tcp and dst host 10.0.0.2") as capture:
        tcp(lab["red"], lab["blue"], BLUE, 5_000_000)
        lengths = capture.lengths(5_000_000)
    assert max(lengths) == 1514
    assert daemon.at_rest().interface("epair0a").opackets >= len(lengths)


def test_two_pairs_on_one_worker_both_forward(lab: Lab) -> None:
    daemon = lab.daemon(NAMESPACES + pair(0) + pair(1), workers=1)
    red, blue = lab["red"], lab["blue"]
    server = blue.start("iperf3", "-s", "--forceflush")
    server.wait_for_output("listening")
    busy = red.start("iperf3", "-c", BLUE, "-t", "60", "--forceflush")
    busy.wait_for_output("sec")
    datagrams(red, blue, "10.0.1.2", 10_000, window=500)
    tcp(blue, red, "10.0.1.1", 20_000_000)
    assert busy.running
    busy.kill()
    server.kill()
    page = daemon.at_rest()
    assert {page.interface(device).worker for device in page.devices()} == {"0"}
