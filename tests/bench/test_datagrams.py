from __future__ import annotations

import contextlib
import itertools
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.bench import datagrams
from epaird.bench.datagrams import Flood, Order, send
from tests.bench.loopback import own_address


@given(st.lists(st.lists(st.integers(0, 50), min_size=1)))
def test_order(batches: list[list[int]]) -> None:
    order = Order()
    for batch in batches:
        order.take(batch)
    numbers = [number for batch in batches for number in batch]
    late = sum(any(earlier > number for earlier in numbers[:at]) for at, number in enumerate(numbers))
    assert order.reordered == late


def test_losses_are_not_reordering() -> None:
    order = Order()
    order.take([1, 2, 5])
    order.take([9, 12])
    assert order.reordered == 0


def test_a_flood_survives_its_encoding() -> None:
    flood = Flood(("10.9.0.2", "10.9.1.2"), 64, 1, 0.5)
    assert Flood.from_json(flood.to_json()) == flood


def test_a_sender_at_a_rate_sends_what_is_due_over_its_flows_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(100.0, 0.01)
    monkeypatch.setattr("epaird.bench.datagrams.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("epaird.bench.datagrams.time.sleep", lambda _: None)
    prefix = own_address().rpartition(".")[0]
    addresses = tuple(f"{prefix}.{last}" for last in (241, 242, 243))
    with contextlib.ExitStack() as stack:
        flows = []
        for address in addresses:
            flow = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            flow.bind((address, datagrams.PORT))
            flow.settimeout(10)
            flows.append(flow)
        sent = send(Flood(addresses, 64, 1, 0.25, per_second=1000), lambda: None)
        assert sent.datagrams == 250
        numbers = [[int.from_bytes(flow.recv(100)[:8], "little") for _ in range(83)] for flow in flows]
        assert numbers == [list(range(83))] * 3
        assert flows[0].recv(100)[:8] == (83).to_bytes(8, "little")
