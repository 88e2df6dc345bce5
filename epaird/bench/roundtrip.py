"""The two ends of a round trip, programs that ``epaird bench`` starts in its namespaces.

    python -m epaird.bench.roundtrip echo ADDRESS              says "ready"; runs until it is ended
    python -m epaird.bench.roundtrip ask ADDRESS SECONDS       says in one line of JSON what it found

One datagram is under way at a time, so that what is measured is the way there and back and two wake-ups.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from dataclasses import asdict, dataclass
from typing import Final

from epaird.bench.statistics import percentile

PORT: Final = 9863
PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9)
_PAYLOAD: Final = bytes(64)
_WARM_UP: Final = 200
"""Exchanges that do not count: the first ones find cold caches and sleeping cores."""
_EXCHANGES: Final = 5000 + _WARM_UP
"""As many for a fast cable as for a slow one, so that both meet the scheduler in the same mood."""
_PATIENCE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """What one run of questions found."""

    exchanges: int
    lost: int
    """How many had no answer within a second."""
    microseconds: tuple[float, ...]
    """Of the exchanges, at PERCENTILES."""


def echo(address: str) -> None:
    """Answer everything, for ever."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, PORT))
        _say("ready")
        while True:
            data, sender = server.recvfrom(2048)
            server.sendto(data, sender)


def ask(address: str, seconds: float) -> RoundTrips:
    """Ask and wait for the answer, as often as counts, but no longer than that."""
    samples: list[int] = []
    lost = 0
    clock = time.perf_counter_ns
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((address, PORT))
        client.settimeout(_PATIENCE_S)
        end = clock() + int(seconds * 1e9)
        while len(samples) < _EXCHANGES and (start := clock()) < end:
            client.send(_PAYLOAD)
            try:
                client.recv(2048)
            except TimeoutError:
                lost += 1
                continue
            samples.append(clock() - start)
    counted = sorted(samples[_WARM_UP:] or samples)
    at = tuple(percentile(counted, each) / 1000 for each in PERCENTILES) if counted else ()
    return RoundTrips(len(counted), lost, at)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Be what the first argument says."""
    if arguments[0] == "echo":
        echo(arguments[1])
    else:
        _say(json.dumps(asdict(ask(arguments[1], float(arguments[2])))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
