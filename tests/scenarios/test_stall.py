"""A receiver that is too slow: frames wait, none is lost, and traffic always resumes.

Half b is a port of a bridge whose other port is slowed down. With a small send buffer the device soon accepts
no more frames, the worker's queue fills, and then the sender's ring.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, replace

import pytest

from tests.scenarios.datagram_stream import DatagramStream
from tests.scenarios.lab import Daemon, Lab, pair
from tests.scenarios.namespaces import Namespace
from tests.scenarios.page import Page
from tests.scenarios.transfers import RawSocket, add_neighbour, frame, number_of, ping
from tests.waiting import until

pytestmark = pytest.mark.real

NEIGHBOUR = bytes.fromhex("02f00d000001")
"""An address that the bridge does not know, so that it floods frames for it to the other port.

It forwards the frame itself, for which the send buffer is charged, and not a copy as of a broadcast.
"""
QUEUE_LIMIT = 20
OTHER = "10.0.1.2"
"""Blue's address on another pair."""
LOOPBACK = '[lo.lo1]\naddresses = ["10.88.7.1/24"]\n'


@dataclass(frozen=True, slots=True)
class Slowed:
    """A cable from red to a bridge in blue, and a slow link from there to green."""

    daemon: Daemon
    sending: Namespace
    blue: Namespace
    red: RawSocket
    green: RawSocket

    def fill(self, frames: int) -> Page:
        """Send numbered frames, then wait until the queue is full and the sender is marked OACTIVE."""
        for number in range(frames):
            self.send(number)
        until(lambda: self.daemon.metrics().worker().oactive, lambda: self.daemon.metrics().text.decode())
        return self.daemon.metrics()

    def send(self, number: int) -> None:
        """Send a frame that takes two minutes at the slow rate."""
        self.red.send(frame(0x88B5, 1000, to=NEIGHBOUR, number=number))

    def wait_for_ports(self, forwarding: int) -> None:
        """Wait until this many of the bridge's ports forward; the others drop what they receive."""
        state = '"state":"forwarding"'
        until(lambda: self.blue.ip("-d -j link show master bridge").count(state) == forwarding)

    def take_sender_down(self) -> None:
        """Set the sender down, and wait until the bridge has seen that half b has no carrier."""
        self.sending.ip("link set eth0 down")
        self.wait_for_ports(forwarding=1)

    def bring_sender_up(self) -> Slowed:
        """Set the sender up again, wait for the bridge, and return the path with a new socket."""
        self.sending.ip("link set eth0 up")
        self.wait_for_ports(forwarding=2)
        self.sending.wait_for_carrier("eth0")
        return replace(self, red=RawSocket(self.sending, "eth0"))  # the other one reports ENETDOWN

    def flushed(self) -> int:
        """Return how many frames of the sender were flushed."""
        return self.daemon.metrics().interface("epair0a").oerrors["flushed"]

    def speed_up(self) -> None:
        """Make the slow link fast."""
        self.blue.tc("qdisc change dev slow root tbf rate 1gbit burst 1mb limit 1mb")
        # The next frame restarts the link, which would otherwise wait until its last frame is due
        # at the old rate.
        self.occupy_link()

    def occupy_link(self) -> None:
        """Send a frame of the bridge's own over the slow link."""
        with RawSocket(self.blue, "slow") as slow:
            slow.send(NEIGHBOUR + NEIGHBOUR + bytes(1000))

    def receive(self, frames: int) -> list[int]:
        """Return the numbers of the next frames received in green."""
        return [number_of(self.green.receive()) for _ in range(frames)]


def slowed(
    lab: Lab, more: str = "", *, queue_limit: int = QUEUE_LIMIT, txqueuelen: int = 1000, **daemon: object
) -> Slowed:
    """Build the slow path on one worker; ``more`` adds pairs, and ``daemon`` adds settings."""
    for name in ("red", "blue", "green"):
        lab.namespace(name, ipv6=False)
    blue, green = lab["blue"], lab["green"]
    blue.ip("link add bridge type bridge mcast_snooping 0")  # with snooping it sends frames of its own
    blue.ip(f"link add slow type veth peer name fast netns {green}")
    green.ip("link set fast up")
    pairs = pair(a={"addresses": [], "txqueuelen": txqueuelen}, b={"addresses": [], "sndbuf": 4096}) + more
    started = lab.daemon(pairs, workers=1, queue_limit=queue_limit, **daemon)
    for port in ("eth0", "slow"):
        blue.ip(f"link set {port} master bridge up")
    blue.ip("link set bridge up")
    cable = Slowed(started, lab["red"], blue, RawSocket(lab["red"], "eth0"), RawSocket(green, "fast"))
    cable.wait_for_ports(forwarding=2)
    cable.sending.wait_for_carrier("eth0")
    blue.tc("qdisc add dev slow root tbf rate 64bit burst 1100 limit 1mb")
    cable.occupy_link()  # else the first frame of the test would pass at once
    return cable


@pytest.mark.parametrize("queue_limit", [QUEUE_LIMIT, 1])
def test_traffic_flows_again_after_a_stall(lab: Lab, queue_limit: int) -> None:
    cable = slowed(lab, queue_limit=queue_limit)
    page = cable.fill(100)
    worker, a, b = page.worker(), page.interface("epair0a"), page.interface("epair0b")
    assert worker.drain_list_interfaces == 1
    assert worker.queue_frames == worker.queue_limit_frames == queue_limit
    assert a.refs == 2  # the drain list has a reference
    assert b.refs == 1 + worker.queue_frames
    assert a.opackets == b.ipackets + worker.queue_frames
    assert a.opackets < 100
    cable.speed_up()
    assert cable.receive(100) == list(range(100))
    page = cable.daemon.at_rest()
    assert page.interface("epair0b").ipackets == 100
    assert page.worker().oactive == page.worker().drain_list_interfaces == 0
    cable.send(7)
    assert cable.receive(1) == [7]


def test_frames_that_the_ring_cannot_hold_are_oqdrops(lab: Lab) -> None:
    ring = 30
    cable = slowed(lab, txqueuelen=ring)
    page = cable.fill(100)
    for number in range(100, 200):
        cable.send(number)
    kept = page.interface("epair0b").ipackets + QUEUE_LIMIT + ring
    assert cable.daemon.metrics().interface("epair0a").oqdrops == 200 - kept
    cable.speed_up()
    numbers = cable.receive(kept)
    assert numbers == sorted(set(numbers))
    assert cable.daemon.at_rest().interface("epair0a").opackets == kept


@pytest.mark.parametrize(("queue_limit", "waiting"), [(QUEUE_LIMIT, QUEUE_LIMIT), (2100, 262)])
def test_a_stall_costs_other_pairs_and_the_other_direction_nothing(
    lab: Lab, queue_limit: int, waiting: int
) -> None:
    """Also where one receiver fills the whole queue, as several do with a larger limit."""
    cable = slowed(lab, pair(1, ipv6=False) + LOOPBACK, queue_limit=queue_limit)
    red, blue = lab["red"], lab["blue"]
    add_neighbour(red, blue, OTHER, "eth1")
    frames = waiting + 100
    before = cable.fill(frames)
    assert before.worker().queue_frames == waiting
    with DatagramStream(red, blue, OTHER, 20_000) as stream:
        until(lambda: cable.daemon.metrics().interface("epair1b").ipackets > 40_000, cable.daemon.__repr__)
        cable.green.send(frame(0x88B5, 114))
        assert len(cable.red.receive()) == 114
        ping(lab.home, "10.88.7.9")
        outcome = stream.end()
    page = cable.daemon.metrics()
    assert (outcome.lost, outcome.ordered) == (0, True)
    assert page.interface("epair1a").oqdrops == 0
    assert page.worker().queue_frames == waiting
    assert [each for each in page.devices() if page.blocked(each)] == ["epair0a"]
    cable.speed_up()
    assert cable.receive(frames) == list(range(frames))
    until(lambda: not cable.daemon.metrics().worker().oactive)


def test_a_receiver_deleted_in_a_stall_is_forgotten(lab: Lab) -> None:
    cable = slowed(lab, pair(1, ipv6=False))
    cable.fill(100)
    lab["blue"].ip("link del eth0")
    until(lambda: cable.daemon.metrics().pairs() == ["epair1"])
    page = cable.daemon.at_rest()
    assert page.worker().queue_frames == page.worker().drain_list_interfaces == page.worker().oactive == 0
    cable.daemon.assert_sleeps()


def test_a_receiver_that_goes_down_in_a_stall_loses_what_waited_for_it(lab: Lab) -> None:
    """The frames are dropped at once, before the consumer frees its own."""
    cable = slowed(lab)
    cable.fill(100)
    cable.blue.ip("link set eth0 down")
    page = cable.daemon.at_rest()
    a, b = page.interface("epair0a"), page.interface("epair0b")
    assert b.ierrors["peer_down"] == QUEUE_LIMIT
    assert b.ipackets + b.ierrors["peer_down"] + a.oerrors["peer_down"] == 100
    cable.daemon.assert_sleeps()


def test_the_bound_is_in_force_again_when_the_receiver_is_up_again(lab: Lab) -> None:
    cable = slowed(lab)
    cable.fill(100)
    cable.blue.ip("link set eth0 down")
    cable.daemon.at_rest()
    cable.blue.ip("link set eth0 up")
    until(lambda: cable.daemon.metrics().interface("epair0a").carrier)
    cable.wait_for_ports(forwarding=2)
    assert cable.fill(100).worker().queue_frames == QUEUE_LIMIT


def test_a_sender_that_goes_down_in_a_stall_loses_what_waits_in_its_ring(lab: Lab) -> None:
    cable = slowed(lab)
    page = cable.fill(100)
    cable.take_sender_down()
    flushed = 100 - page.interface("epair0a").opackets
    until(lambda: cable.flushed() == flushed, lambda: f"{cable.flushed()} of {flushed}")
    assert not cable.daemon.metrics().blocked("epair0a")
    cable = cable.bring_sender_up()
    for number in range(100, 130):
        cable.send(number)
    cable.speed_up()
    kept = 100 - flushed
    assert cable.receive(kept + 30) == [*range(kept), *range(100, 130)]
    assert cable.daemon.at_rest().interface("epair0a").oerrors["flushed"] == flushed


def test_a_sender_that_goes_down_without_a_control_plane_is_flushed_by_the_next(lab: Lab) -> None:
    cable = slowed(lab)
    flushed = 100 - cable.fill(100).interface("epair0a").opackets
    cable.daemon.crash()
    cable.sending.ip("link set eth0 down")
    cable = replace(cable, daemon=lab.restart(cable.daemon).wait_ready())
    until(lambda: cable.flushed() == flushed, lambda: f"{cable.flushed()} of {flushed}")
    cable.wait_for_ports(forwarding=1)
    cable = cable.bring_sender_up()
    cable.speed_up()
    assert cable.receive(100 - flushed) == list(range(100 - flushed))
    cable.daemon.at_rest()


@pytest.mark.parametrize("killed", [False, True], ids=["continued", "killed"])
@pytest.mark.parametrize("again", [False, True], ids=["down", "up again"])
def test_a_half_that_goes_down_while_its_worker_does_nothing(lab: Lab, killed: bool, again: bool) -> None:
    """Frames in its ring are dropped as long as it is down; frames that were sent after that never are."""
    red, blue = lab.namespace("red", ipv6=False), lab.namespace("blue", ipv6=False)
    daemon = lab.daemon(pair(ipv6=False), workers=1, worker_timeout=0)
    sender, receiver = RawSocket(red, "eth0"), RawSocket(blue, "eth0")
    red.wait_for_carrier("eth0")
    os.kill(daemon.worker(), signal.SIGSTOP)
    for number in range(50):
        sender.send(frame(0x88B5, 100, number=number))
    red.ip("link set eth0 down")
    until(lambda: not daemon.metrics().interface("epair0a").up)
    if again:
        red.ip("link set eth0 up")
        red.wait_for_carrier("eth0")
        sender = RawSocket(red, "eth0")  # the other one reports ENETDOWN
        for number in range(50, 60):
            sender.send(frame(0x88B5, 100, number=number))
    os.kill(daemon.worker(), signal.SIGKILL if killed else signal.SIGCONT)
    until(lambda: red.links()["eth0"].tx_packets == (60 if again else 50), daemon.__repr__)
    page = daemon.at_rest()
    assert page.interface("epair0a").oerrors["flushed"] == (0 if again else 50)
    assert page.interface("epair0b").ipackets == (60 if again else 0)
    if again:
        assert [number_of(receiver.receive()) for _ in range(60)] == list(range(60))


def test_a_worker_killed_in_a_stall_loses_what_it_held(lab: Lab) -> None:
    cable = slowed(lab)
    before = cable.fill(100).interface("epair0b").ipackets
    os.kill(cable.daemon.worker(), signal.SIGKILL)
    cable.daemon.wait_for_log("again")
    cable.speed_up()
    until(lambda: cable.daemon.metrics().interface("epair0a").opackets == 100)
    page = cable.daemon.at_rest()
    b = page.interface("epair0b")
    assert b.ierrors["worker_lost"] == QUEUE_LIMIT
    assert b.ipackets == 100 - QUEUE_LIMIT
    assert cable.receive(b.ipackets) == [*range(before), *range(before + QUEUE_LIMIT, 100)]


def test_a_stopping_daemon_delivers_what_it_holds(lab: Lab) -> None:
    cable = slowed(lab, drain_timeout=60)
    held = cable.fill(100).worker().queue_frames
    before = cable.daemon.metrics().interface("epair0b").ipackets
    cable.daemon.signal(signal.SIGTERM)
    cable.daemon.wait_for_log("stopping")
    cable.speed_up()
    assert cable.receive(before + held) == list(range(before + held))
    cable.daemon.assert_clean_exit(0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_daemon_that_ends_in_a_stall_leaves_nothing(lab: Lab, number: int) -> None:
    cable = slowed(lab)
    cable.fill(100)
    cable.daemon.stop(number)
