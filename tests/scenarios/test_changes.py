"""Changes to the daemon's devices by others, under traffic: logged once, without effect on other pairs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from tests.scenarios.lab import NAMESPACES, Daemon, Lab, pair
from tests.scenarios.namespaces import Namespace
from tests.scenarios.transfers import BLUE, RED, Flood, Sink, add_neighbour, ping
from tests.waiting import until

pytestmark = pytest.mark.real

OTHER = "10.0.1.2"
"""Blue's address on the second pair."""


@dataclass(frozen=True, slots=True)
class Busy:
    """Two pairs between red and blue on one worker, with traffic both ways on the first."""

    daemon: Daemon
    red: Namespace
    blue: Namespace
    to_blue: Flood
    to_red: Flood
    sink: Sink
    """The receiver of ``to_blue``."""

    def assert_forwards(self) -> None:
        """Check that the first pair forwards."""
        self.sink.await_arrivals(len(self.sink.arrived()) + 100)

    def assert_other_forwards(self) -> None:
        """Check that the second pair forwards."""
        ping(self.red, OTHER)


@contextmanager
def busy(
    lab: Lab, configuration: str = NAMESPACES + pair(0) + pair(1), *, in_order: bool = True
) -> Iterator[Busy]:
    """Provide two busy pairs for the block; datagrams must arrive in order unless ``in_order`` is false."""
    daemon = lab.daemon(configuration, workers=1)
    red, blue = lab["red"], lab["blue"]
    add_neighbour(red, blue, BLUE)
    with ExitStack() as stack:
        sink = stack.enter_context(Sink(blue, BLUE))
        to_blue = stack.enter_context(Flood(red, BLUE, sink.port))
        to_red = stack.enter_context(Flood(blue, RED))
        traffic = Busy(daemon, red, blue, to_blue, to_red, sink)
        traffic.assert_forwards()
        yield traffic
    assert sink.in_order or not in_order


def test_a_half_down_costs_its_sender_and_up_again_carries_on(lab: Lab) -> None:
    with busy(lab) as traffic:
        daemon, blue = traffic.daemon, traffic.blue
        before = daemon.metrics().interface("epair0a")
        assert before.oerrors["peer_down"] == 0
        blue.ip("link set eth0 down")
        until(lambda: daemon.metrics().interface("epair0a").oerrors["peer_down"] > 100)
        traffic.assert_other_forwards()
        page = daemon.metrics()
        assert page.interface("epair0b").up == 0
        blue.ip("link set eth0 up")
        traffic.assert_forwards()
        traffic.assert_other_forwards()
        assert daemon.metrics().interface("epair0b").up == 1
    after = daemon.at_rest().interface("epair0a")
    assert not after.goes_back(before)


def test_both_halves_down_and_up_again(lab: Lab) -> None:
    # When the link is up again the sender resolves its neighbour, and its own queue does not keep the
    # order.
    with busy(lab, in_order=False) as traffic:
        for place in (traffic.red, traffic.blue):
            place.ip("link set eth0 down")
        traffic.assert_other_forwards()
        for place in (traffic.red, traffic.blue):
            place.ip("link set eth0 up")
        traffic.assert_forwards()
    traffic.daemon.at_rest()


@pytest.mark.parametrize("half", ["a", "b"])
def test_a_deleted_device_takes_its_pair_down_whole(lab: Lab, half: str) -> None:
    with busy(lab) as traffic:
        daemon = traffic.daemon
        (traffic.red if half == "a" else traffic.blue).ip("link del eth0")
        assert_pair_is_gone(traffic, f"epair0{half}")
    daemon.assert_sleeps()
    daemon.at_rest()


def assert_pair_is_gone(traffic: Busy, device: str) -> None:
    """Wait until the first pair is gone because of this device, which the log must report once."""
    daemon = traffic.daemon
    daemon.wait_for_log("epair0 is taken down whole")
    until(lambda: daemon.metrics().pairs() == ["epair1"])
    traffic.assert_other_forwards()
    (line,) = daemon.log_lines_with("epair0 is taken down whole")
    assert line.startswith(f"{device}: ")
    for place in (traffic.red, traffic.blue):
        if place.exists:
            assert set(place.links("tun")) == {"eth1"}


@pytest.mark.parametrize("by_daemon", [True, False], ids=["made by the daemon", "made by others"])
def test_a_deleted_namespace_takes_its_pairs_down(lab: Lab, by_daemon: bool) -> None:
    red, _, green = lab.namespace("red"), lab.namespace("blue"), lab["green"]
    create = '[namespaces]\ncreate = ["$green"]\n' if by_daemon else ""
    if not by_daemon:
        green.create()
    daemon = lab.daemon(create + pair(0, b={"netns": "$green"}) + pair(1), workers=1)
    # The traffic comes from outside: a socket inside would keep the namespace alive.
    add_neighbour(red, green, BLUE)
    before = red.links("tun")["eth0"].index
    with Flood(red, BLUE) as flood:
        flood.wait_for_frames()
        green.remove()
        daemon.wait_for_log("epair0 is taken down whole")
        if by_daemon:
            # It creates its own namespace again after a while, and the pair in it.
            daemon.wait_for_log("it or a namespace of it: created again")
        else:
            until(lambda: daemon.metrics().pairs() == ["epair1"])
        ping(red, OTHER)
    daemon.assert_sleeps()
    (line,) = daemon.log_lines_with("epair0 is taken down whole")
    assert line.startswith("epair0b: ")
    links = red.links("tun")
    assert set(links) == ({"eth0", "eth1"} if by_daemon else {"eth1"})
    assert before not in {link.index for link in links.values()}
    daemon.at_rest()


def test_a_namespace_of_others_in_use_survives_the_removal_of_its_name(lab: Lab) -> None:
    lab.namespace("red")
    blue = lab.namespace("blue")
    with busy(lab, pair(0) + pair(1)) as traffic:
        blue.remove()
        traffic.assert_forwards()
        traffic.assert_other_forwards()
        assert traffic.daemon.metrics().pairs() == ["epair0", "epair1"]


def test_a_renamed_device_is_followed(lab: Lab) -> None:
    with busy(lab) as traffic:
        daemon, blue = traffic.daemon, traffic.blue
        # The device is down because kernels before 6.2 rename no device that is up.
        blue.ip("link set eth0 down")
        blue.ip("link set eth0 name lan7")
        blue.ip("link set lan7 up")
        until(lambda: daemon.metrics().interface("epair0b").name == "lan7")
        traffic.assert_forwards()
        traffic.assert_other_forwards()
        (line,) = daemon.log_lines_with("renamed")
        assert line.startswith("epair0b: renamed from eth0 to lan7")
    daemon.assert_sleeps()
    daemon.at_rest()


def test_a_moved_device_is_followed(lab: Lab) -> None:
    green = lab.namespace("green")
    with busy(lab) as traffic:
        daemon, red, blue = traffic.daemon, traffic.red, traffic.blue
        before = daemon.metrics().interface("epair0a")
        blue.ip(f"link set eth0 netns {green}")
        until(lambda: daemon.metrics().interface("epair0b").netns == green.name)
        assert daemon.metrics().interface("epair0b").up == 0
        until(lambda: daemon.metrics().interface("epair0a").oerrors["peer_down"] > 0)
        green.ip("addr add 10.0.0.2/24 dev eth0")
        green.ip("link set eth0 up")
        ping(red, BLUE)
        traffic.assert_other_forwards()
        (line,) = daemon.log_lines_with("moved")
        assert line.startswith(f"epair0b: moved from namespace {blue} to namespace {green}")
    daemon.assert_sleeps()
    after = daemon.at_rest().interface("epair0a")
    assert not after.goes_back(before)


def test_a_device_moved_home_and_away_again_is_followed(lab: Lab) -> None:
    with busy(lab) as traffic:
        daemon, blue = traffic.daemon, traffic.blue
        blue.run("ip", "link", "set", "eth0", "netns", str(daemon.pid), "name", "visitor")
        until(lambda: daemon.metrics().interface("epair0b").netns == "")
        assert daemon.metrics().interface("epair0b").name == "visitor"
        lab.home.run("ip", "link", "set", "visitor", "netns", str(blue), "name", "eth0")
        until(lambda: daemon.metrics().interface("epair0b").netns == blue.name)
        blue.ip("addr add 10.0.0.2/24 dev eth0")
        blue.ip("link set eth0 up")
        traffic.assert_forwards()
        assert len(daemon.log_lines_with("moved")) == 2
    daemon.at_rest()
