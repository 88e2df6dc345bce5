"""A paced stream of numbered datagrams, by two programs of its own, so that no test's own doings delay it.

    python -m tests.scenarios.paced send ADDRESS PORT RATE    datagrams a second, until its stdin ends
    python -m tests.scenarios.paced sink ADDRESS PORT         until its stdin ends, and then nothing comes

Each says "ready", and at its end what it did, in one line of JSON; so it does for each line on its stdin
meanwhile.  What the sender was told to ``pause`` it sends again when it is told to ``go``.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, Self

from epaird.bench.mmsg import Batch
from tests.waiting import DEADLINE_S

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
    """Each once."""
    late: int
    """Came behind one that was sent later."""
    twice: int
    """Came once more."""
    gap_ms: float
    """The longest time without a datagram."""

    @property
    def ordered(self) -> bool:
        """None came twice, and none before an earlier one."""
        return self.late == self.twice == 0

    @property
    def lost(self) -> int:
        """Sent and not received."""
        return self.sent - self.received


class Place(Protocol):
    """A network namespace."""

    def inside(self) -> AbstractContextManager[None]:
        """Be in it for the block: what is started there stays there."""


class Program:
    """A program that says it is ready, and what it has done so far whenever it is told something."""

    def __init__(self, place: Place, module: str, *arguments: str) -> None:
        """Start a module's, with these arguments, and wait until it is ready."""
        with place.inside():
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                text=True, cwd=Path(__file__).parents[2], start_new_session=True,
            )  # fmt: skip
        if self._process.stdout is not None and self._process.stdout.readline() != "ready\n":
            raise AssertionError(f"{arguments}: not ready")

    def tell(self, line: str) -> dict[str, Any]:
        """Tell it something; what it has done so far."""
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("it has pipes")
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        if not (said := self._process.stdout.readline()):
            raise AssertionError(f"{self._process.args!r}: has ended")
        return dict(json.loads(said))

    def end(self) -> dict[str, Any]:
        """Have it end; what it has done."""
        out, _ = self._process.communicate(timeout=DEADLINE_S)
        return dict(json.loads(out))

    def kill(self) -> None:
        """End it now, if it has not ended."""
        self._process.kill()
        self._process.communicate()


def told(timeout_s: float) -> str | None:
    """In such a program: what it is told within so many seconds; empty to end, and None for nothing."""
    if not select.select([0], [], [], timeout_s)[0]:
        return None
    return os.read(0, 64).decode().strip()


class Flow:
    """A program that sends and one that receives, from ``with`` to its end."""

    def __init__(self, *, sink: Program, sender: Program) -> None:
        self._sink = sink
        self._sender = sender

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for program in (self._sender, self._sink):
            program.kill()

    def pause(self) -> None:
        """Send nothing for the time being."""
        self._sender.tell("pause")

    def go(self) -> None:
        """Go on."""
        self._sender.tell("go")


class Stream(Flow):
    """The stream from ``with`` to :meth:`end`."""

    def __init__(
        self,
        source: Place,
        target: Place,
        address: str,
        rate: int,
        *,
        port: int = PORT,
        bind: str | None = None,
    ) -> None:
        """``bind`` is the receiver's own address, where it is another than that to which all is sent."""
        super().__init__(
            sink=Program(target, __spec__.name, "sink", bind or address, str(port)),
            sender=Program(source, __spec__.name, "send", address, str(port), str(rate)),
        )

    def outcome(self) -> Outcome:
        """What has become of it so far."""
        return Outcome(**self._sink.tell("say"), **self._sender.tell("say"))

    def end(self) -> Outcome:
        """End it, and say what became of it; what is on its way has the time to arrive."""
        sent = self._sender.end()
        return Outcome(**self._sink.end(), **sent)


def _send(address: str, port: int, rate: int) -> dict[str, object]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.connect((address, port))
        batch = Batch(max(1, round(rate * _TICK_S)), _SIZE)
        sent, due, pausing = 0, time.monotonic(), False
        while (line := told(DEADLINE_S if pausing else 0)) != "":
            if line is not None:
                pausing = line == "pause" or (pausing and line != "go")
                _say({"sent": sent})
            if line is not None or pausing:
                continue
            now = time.monotonic()
            if now < due:
                time.sleep(due - now)
                continue
            due = max(due, now - _LATE_S) + _TICK_S
            sent += batch.send(out, sent)
    return {"sent": sent}


class _Arrivals:
    """What has come."""

    def __init__(self) -> None:
        self.latest = 0.0
        self._next = 0
        self._missing: set[int] = set()
        self._found = {"received": 0, "late": 0, "twice": 0, "gap_ms": 0.0}

    def take(self, numbers: list[int], now: float) -> None:
        found = self._found
        if found["received"]:
            found["gap_ms"] = max(found["gap_ms"], 1000 * (now - self.latest))
        self.latest = now
        if numbers == list(range(self._next, self._next + len(numbers))):
            found["received"] += len(numbers)
            self._next += len(numbers)
            return
        for number in numbers:
            if number >= self._next:
                self._missing.update(range(self._next, number))
                self._next = number + 1
            elif number in self._missing:
                self._missing.discard(number)
                found["late"] += 1
            else:
                found["twice"] += 1
                continue
            found["received"] += 1

    def found(self) -> dict[str, float]:
        return self._found


def _receive(address: str, port: int) -> dict[str, float]:
    batch = Batch(64, _SIZE)
    arrivals = _Arrivals()
    quiet_since = None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as into:
        into.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOMY)
        into.bind((address, port))
        _say_ready()
        while True:
            select.select([into.fileno(), *([0] if quiet_since is None else [])], [], [], _QUIET_S)
            line = told(0) if quiet_since is None else None
            now = time.monotonic()
            if count := batch.receive(into, socket.MSG_DONTWAIT):
                arrivals.take(batch.numbers(count), now)
            elif quiet_since is not None and now - max(quiet_since, arrivals.latest) > _QUIET_S:
                return arrivals.found()
            if line == "":
                quiet_since = now
            elif line is not None:
                _say(arrivals.found())


def _say(found: object) -> None:
    print(json.dumps(found), flush=True)  # noqa: T201


def _say_ready() -> None:
    print("ready", flush=True)  # noqa: T201


def _main(role: str, address: str, port: str, *rate: str) -> None:
    if role == "send":
        _say_ready()
        _say(_send(address, int(port), int(rate[0])))
    else:
        _say(_receive(address, int(port)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
