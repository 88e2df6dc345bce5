"""Round trips over a cable at a steady rate of requests.

    python -m tests.figures.round_trips ADDRESS RATE SECONDS

Prints one line of JSON: the replies a second, and the 50th and 99th percentile of the round trips in
microseconds. ``python -m epaird.bench.roundtrip echo ADDRESS`` replies.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from epaird.bench.roundtrip import PORT
from epaird.bench.statistics import percentile
from tests.scenarios.namespaces import Namespace

_PAYLOAD: Final = bytes(64)
_PATIENCE_S: Final = 1.0
_PR_SET_TIMERSLACK: Final = 29  # linux/prctl.h
_EXACT_NS: Final = 1
_HOME: Final = Path(__file__).parents[2]


class Answers(NamedTuple):
    """The results of one run."""

    per_second: float
    median_us: float
    p99_us: float


@contextlib.contextmanager
def echo_server(place: Namespace, address: str) -> Iterator[None]:
    """Run an echo server at an address."""
    echo = place.start(sys.executable, "-m", "epaird.bench.roundtrip", "echo", address)
    echo.wait_for_output("ready")
    try:
        yield
    finally:
        echo.kill()


def measure_round_trips(place: Namespace, address: str, rate: int, seconds: float) -> Answers:
    """Measure round trips at this many requests a second, in a process of its own."""
    output = place.run(sys.executable, "-m", "tests.figures.round_trips", address, str(rate), str(seconds))
    return Answers(*json.loads(output))


def probe(address: str, rate: float, seconds: float) -> Answers:
    """Send requests at a rate; an overdue request is sent at once, and missed ones are not made up for."""
    # Otherwise a sleep takes 50 microseconds too long, as long as all the rest.
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, _EXACT_NS, 0, 0, 0)
    clock, period = time.perf_counter_ns, int(1e9 / rate)
    samples: list[int] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((address, PORT))
        client.settimeout(_PATIENCE_S)
        start = due = clock()
        end = start + int(seconds * 1e9)
        while (now := clock()) < end:
            if now < due:
                time.sleep((due - now) / 1e9)
                now = clock()
            client.send(_PAYLOAD)
            client.recv(2048)
            samples.append(clock() - now)
            due = max(due + period, now)
        took = clock() - start
    samples.sort()
    return Answers(len(samples) * 1e9 / took, percentile(samples, 50) / 1000, percentile(samples, 99) / 1000)


if __name__ == "__main__":
    print(json.dumps(probe(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))))  # noqa: T201
