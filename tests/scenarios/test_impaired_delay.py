"""Delay never drops: not with many pairs, and not when as much is held as may be."""

from __future__ import annotations

import select
import socket
import time

import pytest

from epaird.bench.mmsg import Batch
from tests.scenarios.lab import Lab, pair
from tests.scenarios.page import Page
from tests.scenarios.transfers import add_neighbour
from tests.sockets import force_receive_buffer
from tests.waiting import DEADLINE_S, until

pytestmark = pytest.mark.real

PAIRS = 50
RATE = 20_000
"""Datagrams a second over all pairs."""
TURN = 4
"""Datagrams that are sent at once over one of them."""
COUNT = 20_000
SIZE = 64
LONG, LONG_COUNT, LONG_SIZE = 50, 2000, 1000
"""Long datagrams that are sent at once, and altogether, and their bytes."""


def flow(lab: Lab, unit: int = 0) -> tuple[socket.socket, socket.socket]:
    """Return a socket that sends from red over a pair, and one that receives in blue."""
    address = f"10.0.{unit}.2"
    add_neighbour(lab["red"], lab["blue"], address, f"eth{unit}")
    sender, receiver = (lab[name].socket(socket.AF_INET, socket.SOCK_DGRAM) for name in ("red", "blue"))
    force_receive_buffer(receiver, 1 << 24)
    receiver.bind((address, 0))
    sender.connect(receiver.getsockname())
    return sender, receiver


def numbers(receiver: socket.socket, count: int, size: int) -> list[int]:
    """Return the numbers of so many datagrams, in the order of their arrival."""
    batch = Batch(64, size)
    found: list[int] = []
    while len(found) < count:
        ready, _, _ = select.select([receiver], [], [], DEADLINE_S)
        assert ready, f"{len(found)} of {count}"
        found += batch.numbers(batch.receive(receiver, socket.MSG_DONTWAIT))
    return found


def test_a_delay_on_fifty_pairs_loses_and_reorders_nothing(lab: Lab) -> None:
    for name in ("red", "blue"):
        lab.namespace(name, ipv6=False)
    impaired = "".join(
        f'{pair(unit, ipv6=False)}[epair.epair{unit}.impair]\ndelay = "100ms"\njitter = "5ms"\n'
        for unit in range(PAIRS)
    )
    daemon = lab.daemon(impaired)
    flows = [flow(lab, unit) for unit in range(PAIRS)]
    paced([sender for sender, _ in flows])
    each = COUNT // PAIRS
    for _, receiver in flows:
        assert numbers(receiver, each, SIZE) == list(range(each))
    page = daemon.at_rest()
    for unit in range(PAIRS):
        assert page.interface(f"epair{unit}b").ipackets == each
        assert page.value("epaird_impair_isegments_total", device=f"epair{unit}a") == each


def paced(senders: list[socket.socket]) -> None:
    """Send COUNT datagrams, some over each pair in turn, at RATE or as fast as the machine can."""
    batch, began = Batch(TURN, SIZE), time.monotonic()
    for turn in range(COUNT // TURN):
        assert batch.send(senders[turn % PAIRS], turn // PAIRS * TURN) == TURN
        due = began + (turn + 1) * TURN / RATE
        if (early := due - time.monotonic()) > 0:
            time.sleep(early)


def send(sender: socket.socket) -> None:
    """Send LONG_COUNT datagrams."""
    batch = Batch(LONG, LONG_SIZE)
    for first in range(0, LONG_COUNT, LONG):
        assert batch.send(sender, first) == LONG


def test_a_full_buffer_blocks_the_sender_and_drops_nothing(lab: Lab) -> None:
    """The rest waits on the drain list, and in the kernel's ring."""
    for name in ("red", "blue"):
        lab.namespace(name, ipv6=False)
    impaired = '[epair.epair0.a.impair]\ndelay = "1s"\nbuffer = "1mb"\n'
    daemon = lab.daemon(pair(ipv6=False) + impaired, workers=1)
    sender, receiver = flow(lab)
    send(sender)

    def full() -> Page | None:
        page = daemon.metrics()
        return page if page.blocked("epair0a") else None

    page = until(full, daemon.__repr__)
    assert page.worker().drain_list_interfaces == page.worker().oactive == 1
    assert page.interface("epair0a").refs == 2
    assert page.value("epaird_impair_full", device="epair0a") == 1
    assert page.interface("epair0a").opackets < LONG_COUNT
    assert numbers(receiver, LONG_COUNT, LONG_SIZE) == list(range(LONG_COUNT))
    page = daemon.at_rest()
    assert page.worker().drain_list_interfaces == page.worker().oactive == 0
    assert page.value("epaird_impair_full", device="epair0a") == 0
    assert page.interface("epair0a").oqdrops == 0
    assert page.interface("epair0a").opackets == page.interface("epair0b").ipackets == LONG_COUNT


@pytest.mark.parametrize("shape", ['rate = "2mbit"', 'trace = "lte.up"'])
def test_only_the_limit_drops_and_says_so(lab: Lab, shape: str) -> None:
    for name in ("red", "blue"):
        lab.namespace(name, ipv6=False)
    (lab.directory / "lte.up").write_text("4\n8\n")
    impaired = f'[epair.epair0.a.impair]\ndelay = "50ms"\n{shape}\nlimit = "100p"\n'
    daemon = lab.daemon(pair(ipv6=False) + impaired, workers=1)
    sender, receiver = flow(lab)
    send(sender)
    until(lambda: daemon.metrics().interface("epair0a").opackets == LONG_COUNT, daemon.__repr__)
    page = daemon.at_rest()
    dropped = int(page.value("epaird_impaired_total", device="epair0a", reason="queue_full"))
    assert LONG_COUNT / 2 < dropped <= LONG_COUNT - 100
    arrived = numbers(receiver, LONG_COUNT - dropped, LONG_SIZE)
    assert arrived == sorted(set(arrived))
    page = daemon.at_rest()
    assert page.interface("epair0b").ipackets == LONG_COUNT - dropped
