"""A stream over the machine's loopback, without root."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from epaird.bench.stream import ReceivedStream, send, usable
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


def test_a_receiver_with_a_time_of_its_own_ends_before_the_sender_does() -> None:
    address = own_address()
    command = [sys.executable, "-m", "epaird.bench.stream", "receive", address, "0.05", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "ready\n"
        start = time.monotonic()
        send(address, 60, "reno")
        took = time.monotonic() - start
        received = ReceivedStream(**json.loads(receiver.stdout.readline()))
    assert receiver.returncode == 0
    assert received.octets > 0
    assert 0.1 <= received.seconds <= took - 0.05
    assert received.window == int(Path("/proc/sys/net/ipv4/tcp_rmem").read_text().split()[2])


def test_usable_congestion_control() -> None:
    assert usable("reno")  # built into every kernel
    assert not usable("none such")
