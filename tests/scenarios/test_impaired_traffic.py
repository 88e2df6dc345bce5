"""Traffic of users over impaired pairs: the kernels at both ends agree with all counts of the daemon."""

from __future__ import annotations

import re

import pytest

from tests.dataplane.impair.oracles import within
from tests.dataplane.impair.pump import checksum_errors, statistics
from tests.scenarios.ctl import epairctl
from tests.scenarios.lab import Daemon, Lab, pair
from tests.scenarios.page import Page
from tests.scenarios.test_frames import KINDS
from tests.scenarios.transfers import BLUE, BLUE6, RED, RED6, RawSocket, add_neighbour, tcp
from tests.waiting import until

pytestmark = pytest.mark.real


def link(lab: Lab, *, ipv6: bool = False) -> Daemon:
    """Connect red and blue, whose kernels send nothing that has to be sent again but TCP."""
    for name in ("red", "blue"):
        lab.namespace(name, ipv6=ipv6)
    daemon = lab.daemon(pair(ipv6=ipv6), workers=1)
    if ipv6:
        for name in ("red", "blue"):
            lab[name].wait_for_dad("eth0")
    add_neighbour(lab["red"], lab["blue"], BLUE6 if ipv6 else BLUE)
    add_neighbour(lab["blue"], lab["red"], RED6 if ipv6 else RED)
    return daemon


def line(page: Page, counter: str, **labels: str) -> int:
    """Return a counter of the line from red to blue."""
    return int(page.value(f"epaird_{counter}_total", device="epair0a", **labels))


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_100_megabytes_cross_a_link_that_loses_one_segment_in_a_hundred(lab: Lab, ipv6: bool) -> None:
    daemon = link(lab, ipv6=ipv6)
    epairctl(lab, "impair", "epair0a", "loss", "1%", "seed", "7")
    tcp(lab["red"], lab["blue"], BLUE6 if ipv6 else BLUE, 100_000_000)
    page = daemon.at_rest()
    lost, segments = line(page, "impaired", reason="loss"), line(page, "impair_osegments")
    assert within(lost, segments, 0.01)
    assert lost <= statistics(lab["red"])["TcpRetransSegs"]
    assert [checksum_errors(lab[name]) for name in ("red", "blue")] == [0, 0]
    assert page.interface("epair0a").opackets < segments / 5, "as super-frames"
    assert line(page, "cut") > 100


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_the_receivers_kernel_counts_each_corrupted_segment(lab: Lab, ipv6: bool) -> None:
    daemon = link(lab, ipv6=ipv6)
    epairctl(lab, "impair", "epair0a", "corrupt", "1%", "seed", "7")
    tcp(lab["red"], lab["blue"], BLUE6 if ipv6 else BLUE, 10_000_000)
    page = daemon.at_rest()
    corrupted = line(page, "corrupted")
    assert within(corrupted, line(page, "impair_osegments"), 0.01)
    assert statistics(lab["blue"])["TcpInCsumErrors"] == corrupted
    assert [checksum_errors(lab[name]) for name in ("red", "blue")] == [0, corrupted]


def test_every_kind_of_frame_is_delayed_doubled_and_dropped(lab: Lab) -> None:
    daemon = link(lab)
    with RawSocket(lab["red"], "eth0") as red, RawSocket(lab["blue"], "eth0") as blue:
        epairctl(lab, "impair", "epair0", "delay", "5ms", "duplicate", "100%")
        for sender, receiver in ((red, blue), (blue, red)):
            for kind, sent in KINDS.items():
                sender.send(sent)
                assert [receiver.receive(), receiver.receive()] == [sent, sent], kind
        epairctl(lab, "impair", "epair0a", "loss", "100%")
        for sent in KINDS.values():
            red.send(sent)
        until(lambda: line(daemon.metrics(), "impaired", reason="loss") == len(KINDS), daemon.__repr__)
    page = daemon.at_rest()
    assert page.interface("epair0b").ipackets == page.interface("epair0a").ipackets == 2 * len(KINDS)


def test_a_round_trip_and_the_arp_before_it_take_the_delay(lab: Lab) -> None:
    """The first request waits for the answer to an ARP request."""
    for name in ("red", "blue"):
        lab.namespace(name, ipv6=False)
    daemon = lab.daemon(pair(ipv6=False) + '[epair.epair0.impair]\ndelay = "60ms"\n')
    pinged = lab["red"].run("ping", "-n", "-c", "4", "-i", "0.3", BLUE)
    first, *others = (float(each) for each in re.findall("time=([0-9.]+)", pinged))
    assert first >= 240
    assert len(others) == 3
    assert all(each >= 120 for each in others)
    assert min(others) < first
    page = daemon.at_rest()
    assert line(page, "impair_osegments") == page.interface("epair0a").opackets
