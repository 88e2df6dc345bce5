"""Client and server of round trips, programs that ``epaird bench`` starts in its namespaces.

    python -m epaird.bench.roundtrip echo ADDRESS              prints "ready"; runs until it is killed
    python -m epaird.bench.roundtrip ask ADDRESS SECONDS       prints its results in one line of JSON

One datagram is in flight at a time, so a round trip consists of both directions and two wake-ups.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from dataclasses import asdict, dataclass
from typing import Final

from epaird.bench.output import write_line
from epaird.bench.statistics import percentile

PORT: Final = 9863
PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9)
_PAYLOAD: Final = bytes(64)
_WARM_UP: Final = 200
"""Exchanges that are not counted: the first ones meet cold caches and idle cores."""
_EXCHANGES: Final = 5000 + _WARM_UP
"""Exchanges of a run, equal for fast and slow cables, so that both meet the same scheduler conditions."""
_ANSWER_TIMEOUT_S: Final = 1.0
"""Time after which an answer counts as lost."""


@dataclass(frozen=True, slots=True)
class RoundTripTimes:
    """The results of one run."""

    exchanges: int
    """Exchanges that were counted."""
    lost: int
    """Exchanges without an answer within a second."""
    microseconds: tuple[float, ...]
    """Round trip times at PERCENTILES; empty when there was no exchange."""


def echo(address: str) -> None:
    """Answer every datagram, for ever."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, PORT))
        write_line("ready")
        while True:
            data, sender = server.recvfrom(2048)
            server.sendto(data, sender)


def ask(address: str, seconds: float) -> RoundTripTimes:
    """Measure a fixed number of exchanges, for at most ``seconds``."""
    samples: list[int] = []
    lost = 0
    clock = time.perf_counter_ns
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((address, PORT))
        client.settimeout(_ANSWER_TIMEOUT_S)
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
    at = tuple(percentile(counted, percent) / 1000 for percent in PERCENTILES) if counted else ()
    return RoundTripTimes(len(counted), lost, at)


def main(arguments: list[str]) -> int:
    """Run the program named by the first argument."""
    if arguments[0] == "echo":
        echo(arguments[1])
    else:
        write_line(json.dumps(asdict(ask(arguments[1], float(arguments[2])))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
