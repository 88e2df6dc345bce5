"""Pairs with several queues whose workers are killed: the books balance to the frame."""

from __future__ import annotations

import os
import random
import signal
from typing import Self

import pytest

from tests.scenarios.datagram_stream import DatagramStream
from tests.scenarios.hanging import hang
from tests.scenarios.lab import Daemon, Lab, pair
from tests.scenarios.transfers import add_neighbour
from tests.waiting import until

pytestmark = pytest.mark.real

KILLS = 12
RATE = 2_500
FLOWS = 2


class Streams:
    """Traffic in both directions of two pairs, of several flows, so that every queue has some."""

    def __init__(self, lab: Lab) -> None:
        self._streams: list[DatagramStream] = []
        for unit in range(2):
            for number, (source, target) in enumerate((("red", "blue"), ("blue", "red"))):
                address = f"10.0.{unit}.{2 - number}"
                add_neighbour(lab[source], lab[target], address, f"eth{unit}")
                self._streams += [
                    DatagramStream(lab[source], lab[target], address, RATE, port=9000 + flow)
                    for flow in range(FLOWS)
                ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for each in self._streams:
            with each:
                assert kind is not None or each.end().twice == 0


def wait_for_frames(daemon: Daemon, frames: int) -> None:
    """Wait until this many more frames have crossed."""
    before = daemon.metrics().interface("epair0a").opackets
    until(lambda: daemon.metrics().interface("epair0a").opackets > before + frames, daemon.__repr__)


def settled(daemon: Daemon) -> None:
    """Check the books, which balance soon after the last death, and that no frame is lost twice."""
    page = daemon.at_rest()
    for device in page.devices():
        assert page.interface(device).refs == 1


def test_workers_killed_at_random(lab: Lab) -> None:
    chosen = random.Random(1)
    lab.namespace("red", ipv6=False)
    lab.namespace("blue", ipv6=False)
    pairs = pair(0, ipv6=False, queues=2) + pair(1, ipv6=False, queues=4)
    daemon = lab.daemon(pairs, workers=2)
    with Streams(lab):
        for kills in range(1, KILLS + 1):
            os.kill(chosen.choice(until(daemon.workers)), signal.SIGKILL)
            daemon.wait_for_log_lines("forwards", kills)
            wait_for_frames(daemon, 500)
    settled(daemon)


def test_both_workers_are_killed_at_once_and_then_the_control_plane(lab: Lab) -> None:
    lab.namespace("red", ipv6=False)
    lab.namespace("blue", ipv6=False)
    daemon = lab.daemon(pair(0, ipv6=False, queues=2) + pair(1, ipv6=False, queues=4), workers=2)
    with Streams(lab):
        wait_for_frames(daemon, 500)
        for worker in daemon.workers():
            os.kill(worker, signal.SIGKILL)
        daemon.wait_for_log_lines("forwards", 2)
        daemon.crash()
        daemon = lab.restart(daemon).wait_ready()
        wait_for_frames(daemon, 500)
    settled(daemon)


def test_a_worker_hangs_while_another_one_is_killed(lab: Lab) -> None:
    """The queue of the killed one goes on; its account is settled once the other one was replaced."""
    lab.namespace("red", ipv6=False)
    lab.namespace("blue", ipv6=False)
    daemon = lab.daemon(pair(0, ipv6=False, queues=2) + pair(1, ipv6=False, queues=4), workers=2)
    with Streams(lab):
        wait_for_frames(daemon, 500)
        hung, killed = daemon.workers()
        with hang(hung):
            os.kill(killed, signal.SIGKILL)
            daemon.wait_for_log("has hung")
        daemon.wait_for_log_lines("forwards", 2)
        wait_for_frames(daemon, 500)
    settled(daemon)
