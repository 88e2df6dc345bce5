"""A tenant that changes its device without a pause costs little, and delays nobody."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import time
from collections.abc import Iterator, Sequence

import pytest

from epaird.control.interfaces.pacing import RATE, REPORT_S
from epaird.kernel import requests
from epaird.kernel.netlink import RouteSocket
from epaird.kernel.requests import NetlinkRequest
from tests.scenarios.lab import CABLE, Lab
from tests.scenarios.namespaces import Namespace
from tests.waiting import until

pytestmark = pytest.mark.real

CHANGES = 3000


@contextlib.contextmanager
def owner_of(netns: Namespace, device: str) -> Iterator[tuple[RouteSocket, int]]:
    """Provide a socket in a namespace and the index of a device there."""
    with netns.inside():
        route, index = RouteSocket(), socket.if_nametoindex(device)
    with contextlib.closing(route):
        yield route, index


def execute(route: RouteSocket, wanted: Sequence[NetlinkRequest]) -> None:
    assert not any(route.execute([(each.kind, each.flags, each.payload) for each in wanted]))


def most_handled(since: float) -> int:
    """Return how many changes of one device may have been handled since a time."""
    return RATE.burst + int((time.monotonic() - since) * RATE.per_s) + 1


def most_reports(since: float) -> int:
    """Return how many reports of one device there may have been since a time, with the one at the end."""
    return int((time.monotonic() - since) / REPORT_S) + 1


def test_a_rename_loop_is_logged_in_part_and_ends_with_the_right_name(lab: Lab) -> None:
    daemon = lab.daemon(CABLE)
    began = time.monotonic()
    with owner_of(lab["red"], "eth0") as (route, index):
        numbers = itertools.count()
        handled = changed = 0
        # The daemon merges what comes within a few milliseconds, so a fast loop may take no token for long.
        while handled < RATE.burst or changed < CHANGES:
            names = [f"evil{number}" for number in itertools.islice(numbers, 10)]
            execute(route, [requests.name(index, name) for name in names])
            changed += 10
            handled = len(daemon.log_lines_with("epair0a: renamed from "))
        for _ in range(CHANGES // 10):
            names = [f"evil{number}" for number in itertools.islice(numbers, 10)]
            execute(route, [requests.name(index, name) for name in names])
        lab["blue"].ip("link set eth0 name uplink")
        daemon.wait_for_log("epair0b: renamed from eth0 to uplink")
        until(lambda: daemon.metrics().interface("epair0a").name == names[-1], daemon.__repr__)
    lines = daemon.log_lines_with("epair0a: renamed from ")
    assert len(lines) <= most_handled(began)
    daemon.stop()
    reports = daemon.log_lines_with("more changes in the last")
    assert 1 <= len(reports) <= most_reports(began)
    for report in reports:
        assert re.match(r"epair0a: [1-9]\d* more changes in the last \d+ s were not logged", report)


def test_what_an_endless_flap_removes_is_restored(lab: Lab) -> None:
    daemon = lab.daemon(CABLE)
    with owner_of(lab["red"], "eth0") as (route, index):
        for _ in range(CHANGES // 20):
            execute(route, [requests.up(index, number % 2 == 1) for number in range(20)])
    address = "fd00::1/64"
    until(lambda: address in lab["red"].ip("-6 addr show dev eth0"), daemon.__repr__)
    page = daemon.metrics().interface("epair0a")
    assert page.up
    daemon.stop()


def test_a_thousand_foreign_devices_are_none_of_the_daemons_business(lab: Lab) -> None:
    daemon = lab.daemon(CABLE)
    before = daemon.log
    lab["red"].run(
        "sh",
        "-c",
        "for i in $(seq 200); do ip link add d$i type bridge; ip link set d$i up; ip link del d$i; done",
    )
    lab["red"].ip("link set eth0 mtu 1400")
    daemon.wait_for_log("epair0a: mtu is 1400 now")
    assert len(daemon.log) == len(before) + 1
    daemon.stop()
