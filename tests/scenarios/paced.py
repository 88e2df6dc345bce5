"""A paced stream of numbered datagrams, by two programs of its own, so that no test's own doings delay it.

    python -m tests.scenarios.paced send ADDRESS PORT RATE    datagrams a second, until its stdin ends
    python -m tests.scenarios.paced sink ADDRESS PORT         until its stdin ends, and then nothing comes

Each says "ready", and at its end what it did, in one line of JSON.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from epaird.bench.mmsg import Batch
from tests.scenarios.lab import DEADLINE_S, Namespace

PORT: Final = 9000
_SIZE: Final = 64
_TICK_S: Final = 0.001
_LATE_S: Final = 0.02
"""What could not be sent for longer than this is not sent at all: a ring is for the daemon's delays."""
_QUIET_S: Final = 0.3
_ROOMY: Final = 1 << 28
_SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h; Python has no name for it


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a stream."""

    sent: int
    received: int
    ordered: bool
    """None came twice, and none before an earlier one."""
    gap_ms: float
    """The longest time without a datagram."""

    @property
    def lost(self) -> int:
        """Sent and not received."""
        return self.sent - self.received


class Stream:
    """The stream from ``with`` to :meth:`end`."""

    def __init__(self, source: Namespace, target: Namespace, address: str, rate: int) -> None:
        self._sink = _start(target, "sink", address, str(PORT))
        self._sender = _start(source, "send", address, str(PORT), str(rate))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for process in (self._sender, self._sink):
            process.kill()
            process.communicate()

    def end(self) -> Outcome:
        """End it, and say what became of it; what is on its way has the time to arrive."""
        said = []
        for process in (self._sender, self._sink):
            out, _ = process.communicate(timeout=DEADLINE_S)
            said.append(json.loads(out))
        sent, received = said
        return Outcome(sent["sent"], received["received"], received["ordered"], received["gap_ms"])


def _start(place: Namespace, *arguments: str) -> subprocess.Popen[str]:
    with place.inside():
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.scenarios.paced", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
    if process.stdout is not None and process.stdout.readline() != "ready\n":
        raise AssertionError(f"{arguments}: not ready")
    return process


def _send(address: str, port: int, rate: int) -> dict[str, object]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.connect((address, port))
        batch = Batch(max(1, round(rate * _TICK_S)), _SIZE)
        sent, due = 0, time.monotonic()
        while not select.select([sys.stdin], [], [], 0)[0]:
            now = time.monotonic()
            if now < due:
                time.sleep(due - now)
                continue
            due = max(due, now - _LATE_S) + _TICK_S
            sent += batch.send(out, sent)
    return {"sent": sent}


def _receive(address: str, port: int) -> dict[str, object]:
    batch = Batch(64, _SIZE)
    received, gap, last, latest, ordered = 0, 0.0, -1, 0.0, True
    quiet_since = None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as into:
        into.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOMY)
        into.bind((address, port))
        print("ready", flush=True)  # noqa: T201
        while True:
            select.select([into, *([sys.stdin] if quiet_since is None else [])], [], [], _QUIET_S)
            count = batch.receive(into, socket.MSG_DONTWAIT)
            now = time.monotonic()
            if count:
                numbers = batch.numbers(count)
                ordered &= all(a < b for a, b in zip([last, *numbers], numbers, strict=False))
                gap = max(gap, now - latest) if received else 0.0
                received, last, latest = received + count, numbers[-1], now
            elif quiet_since is not None and now - max(quiet_since, latest) > _QUIET_S:
                return {"received": received, "ordered": ordered, "gap_ms": 1000 * gap}
            elif quiet_since is None and select.select([sys.stdin], [], [], 0)[0]:
                quiet_since = now


def _main(role: str, address: str, port: str, *rate: str) -> None:
    if role == "send":
        print("ready", flush=True)  # noqa: T201
        outcome = _send(address, int(port), int(rate[0]))
    else:
        outcome = _receive(address, int(port))
    print(json.dumps(outcome), flush=True)  # noqa: T201


if __name__ == "__main__":
    _main(*sys.argv[1:])
