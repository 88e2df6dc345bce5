"""Impaired pairs with several queues: one link, with one rate and one order, whose frames nothing loses."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import ExitStack

import pytest

from tests.scenarios.ctl import epairctl, reload
from tests.scenarios.datagram_stream import DatagramStream, Outcome
from tests.scenarios.lab import Daemon, Lab, pair
from tests.scenarios.test_impaired import kill_control_plane, kill_worker, upgrade, wait_until_held
from tests.scenarios.transfers import add_neighbour
from tests.waiting import until

pytestmark = pytest.mark.real

FLOWS = 4
RATE = 500
"""Datagrams a second of each flow."""
WIRE = 8 * (64 + 8 + 20 + 14 + 24)
"""Bits on the wire of one of them."""
DELAY = '\n[epair.epair0.impair]\ndelay = "150ms"\n'


def started(lab: Lab, text: str = DELAY, *, queues: int = 2, workers: int = 1) -> Daemon:
    lab.namespace("red", ipv6=False)
    lab.namespace("blue", ipv6=False)
    return lab.daemon(pair(ipv6=False, queues=queues) + text, workers=workers)


class Streams:
    """Flows from red to blue, which the kernel distributes among the queues."""

    def __init__(self, lab: Lab, stack: ExitStack) -> None:
        add_neighbour(lab["red"], lab["blue"], "10.0.0.2", "eth0")
        self._streams = [
            stack.enter_context(DatagramStream(lab["red"], lab["blue"], "10.0.0.2", RATE, port=9000 + flow))
            for flow in range(FLOWS)
        ]

    def end(self) -> list[Outcome]:
        """End the flows; each must be in order and without doubles."""
        outcomes = [each.end() for each in self._streams]
        assert all(each.ordered for each in outcomes), outcomes
        return outcomes


def lost(outcomes: Sequence[Outcome]) -> int:
    return sum(each.lost for each in outcomes)


def impaired(daemon: Daemon, reason: str) -> int:
    return int(daemon.metrics().value("epaird_impaired_total", device="epair0a", reason=reason))


def test_nothing_that_is_held_is_lost(lab: Lab) -> None:
    daemon = started(lab)
    with ExitStack() as stack:
        streams = Streams(lab, stack)
        for fault in (kill_worker, kill_control_plane, upgrade):
            wait_until_held(daemon)
            daemon = fault(lab, daemon)
            assert not daemon.log_lines_with("waits for another process")
        wait_until_held(daemon)
        outcomes = streams.end()
    page = daemon.at_rest()
    errors = page.interface("epair0b").ierrors
    assert lost(outcomes) == errors["worker_lost"] == sum(errors.values())
    assert errors["worker_lost"] <= 64, "at most the burst in hand, of the worker that was killed"
    assert page.held("epair0a") == 0


def test_losses_are_counted_once_for_all_queues(lab: Lab) -> None:
    daemon = started(lab, '\n[epair.epair0.a.impair]\ndelay = "20ms"\nloss = "10%"\n', queues=4)
    with ExitStack() as stack:
        streams = Streams(lab, stack)
        until(lambda: impaired(daemon, "loss") > 100, daemon.__repr__)
        outcomes = streams.end()
    daemon.at_rest()
    assert lost(outcomes) == impaired(daemon, "loss")


def test_all_queues_share_one_rate(lab: Lab) -> None:
    rate = 1_000_000
    assert 2 * rate < FLOWS * RATE * WIRE
    daemon = started(lab, f'\n[epair.epair0.a.impair]\nrate = "{rate}bit"\nlimit = "20p"\n')
    began = time.monotonic()
    with ExitStack() as stack:
        streams = Streams(lab, stack)
        until(lambda: impaired(daemon, "queue_full") > 1000, daemon.__repr__)
        outcomes = streams.end()
    seconds = time.monotonic() - began
    daemon.at_rest()
    assert lost(outcomes) == impaired(daemon, "queue_full")
    delivered = sum(each.received for each in outcomes)
    assert delivered * WIRE < rate * seconds + 20 * WIRE
    assert all(each.received for each in outcomes)


def test_an_impairment_is_applied_changed_and_removed_while_frames_cross(lab: Lab) -> None:
    """Two workers have a queue each before and after."""
    daemon = started(lab, "", workers=2)
    with ExitStack() as stack:
        streams = Streams(lab, stack)
        for keys in (("delay", "100ms"), ("delay", "200ms"), ("delay", "20ms"), ("off",), ("delay", "100ms")):
            answer = epairctl(lab, "impair", "epair0", *keys)
            assert re.match("epair0, each direction: (not impaired|delay)", answer)
            if keys != ("off",):
                wait_until_held(daemon, 20)
        epairctl(lab, "impair", "epair0", "off")
        until(lambda: daemon.metrics().held("epair0a") == 0, daemon.__repr__)
        outcomes = streams.end()
    page = daemon.at_rest()
    assert lost(outcomes) == 0
    assert page.interface("epair0a").worker == "0"


def test_a_reload_impairs_all_queues(lab: Lab) -> None:
    daemon, plain = started(lab, ""), pair(ipv6=False, queues=2)
    with ExitStack() as stack:
        streams = Streams(lab, stack)
        assert "impair.delay: (none) -> 150ms" in reload(daemon, plain + DELAY)
        wait_until_held(daemon)
        reload(daemon, plain)
        until(lambda: daemon.metrics().held("epair0a") == 0, daemon.__repr__)
        outcomes = streams.end()
    daemon.at_rest()
    assert lost(outcomes) == 0


def test_what_is_held_for_any_queue_is_counted_when_the_cable_is_unplugged(lab: Lab) -> None:
    daemon = started(lab)
    with ExitStack() as stack:
        streams = Streams(lab, stack)
        wait_until_held(daemon)
        epairctl(lab, "unpatch", "epair0a")
        daemon.wait_for_log("unplugged while impairment held")
        outcomes = streams.end()
    page = daemon.metrics()
    dropped = page.interface("epair0b").ierrors["write_error"]
    assert dropped > 50
    received = sum(each.received for each in outcomes)
    assert page.interface("epair0a").opackets == received + dropped
