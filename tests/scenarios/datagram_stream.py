"""A paced stream of numbered datagrams, sent and received by programs of their own.

    python -m tests.scenarios.datagram_stream send ADDRESS PORT RATE    datagrams a second, until stdin ends
    python -m tests.scenarios.datagram_stream sink ADDRESS PORT         until stdin ends and no more arrive

``tests.scenarios.programs`` describes their protocol.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from dataclasses import dataclass
from typing import Final

from epaird.bench.mmsg import Batch
from tests.scenarios.programs import (
    Flow,
    HasNamespace,
    Program,
    print_ready,
    print_results,
    read_command,
    run_program,
    send_paced,
)
from tests.sockets import force_receive_buffer

PORT: Final = 9000
_SIZE: Final = 64
_TICK_S: Final = 0.001
_LATE_S: Final = 0.02
"""Ticks later than this are left out: a ring has room for the daemon's delays, not for the sender's."""
_QUIET_S: Final = 0.3
_ROOMY: Final = 1 << 28


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a stream."""

    sent: int
    received: int
    """Datagrams received, each counted once."""
    late: int
    """Datagrams that arrived after one sent later."""
    twice: int
    """Datagrams that arrived again."""
    gap_ms: float
    """The longest time without a datagram."""

    @property
    def ordered(self) -> bool:
        """True if none came twice and none before an earlier one."""
        return self.late == self.twice == 0

    @property
    def lost(self) -> int:
        """Datagrams sent and not received."""
        return self.sent - self.received


class DatagramStream(Flow):
    """The stream, from ``with`` to :meth:`end`."""

    def __init__(
        self,
        source: HasNamespace,
        target: HasNamespace,
        address: str,
        rate: int,
        *,
        port: int = PORT,
        bind: str | None = None,
    ) -> None:
        """``bind`` is the receiver's own address where it differs from the destination address."""
        super().__init__(
            sink=Program(target, __spec__.name, "sink", bind or address, str(port)),
            sender=Program(source, __spec__.name, "send", address, str(port), str(rate)),
        )

    def outcome(self) -> Outcome:
        """Return the outcome so far."""
        return Outcome(**self._sink.command("report"), **self._sender.command("report"))

    def end(self) -> Outcome:
        """End the stream, wait for the datagrams in flight and return the outcome."""
        sent = self._sender.end()
        return Outcome(**self._sink.end(), **sent)


def _send(address: str, port: int, rate: int) -> dict[str, object]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.connect((address, port))
        batch = Batch(max(1, round(rate * _TICK_S)), _SIZE)
        return send_paced(lambda sent: batch.send(out, sent), _TICK_S, _LATE_S)


class _Arrivals:
    """Statistics of the datagrams that have arrived."""

    def __init__(self) -> None:
        self.latest = 0.0
        self._next = 0
        self._missing: set[int] = set()
        self._results = {"received": 0, "late": 0, "twice": 0, "gap_ms": 0.0}

    def take(self, numbers: list[int], now: float) -> None:
        results = self._results
        if results["received"]:
            results["gap_ms"] = max(results["gap_ms"], 1000 * (now - self.latest))
        self.latest = now
        if numbers == list(range(self._next, self._next + len(numbers))):
            results["received"] += len(numbers)
            self._next += len(numbers)
            return
        for number in numbers:
            if number >= self._next:
                self._missing.update(range(self._next, number))
                self._next = number + 1
            elif number in self._missing:
                self._missing.discard(number)
                results["late"] += 1
            else:
                results["twice"] += 1
                continue
            results["received"] += 1

    def results(self) -> dict[str, float]:
        return self._results


def _receive(address: str, port: int) -> dict[str, float]:
    batch = Batch(64, _SIZE)
    arrivals = _Arrivals()
    quiet_since = None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as into:
        force_receive_buffer(into, _ROOMY)
        into.bind((address, port))
        print_ready()
        while True:
            select.select([into.fileno(), *([0] if quiet_since is None else [])], [], [], _QUIET_S)
            line = read_command(0) if quiet_since is None else None
            now = time.monotonic()
            if count := batch.receive(into, socket.MSG_DONTWAIT):
                arrivals.take(batch.numbers(count), now)
            elif quiet_since is not None and now - max(quiet_since, arrivals.latest) > _QUIET_S:
                return arrivals.results()
            if line == "":
                quiet_since = now
            elif line is not None:
                print_results(arrivals.results())


if __name__ == "__main__":
    run_program(sys.argv[1:], send=_send, receive=_receive)
