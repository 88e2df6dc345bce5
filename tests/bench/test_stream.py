"""A stream over the machine's loopback, without root."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from epaird.bench.stream import CONGESTION, ReceivedStream, available, send
from tests.bench.loopback import own_address


def test_a_stream_is_received_to_its_end() -> None:
    address = own_address()
    command = [sys.executable, "-m", "epaird.bench.stream", "receive", address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "ready\n"
        start = time.monotonic()
        send(address, 0.1)
        received = ReceivedStream(**json.loads(receiver.stdout.readline()))
        took = time.monotonic() - start
    assert receiver.returncode == 0
    assert received.octets > 0
    assert received.octets % (1 << 17) == 0
    assert 0 < received.seconds <= took


def test_the_kernels_congestion_control_algorithms() -> None:
    names = available()
    assert "reno" in names  # built into every kernel
    assert all(name.isascii() and name.strip() == name for name in (*names, CONGESTION))
