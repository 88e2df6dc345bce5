"""A stream of bytes by TCP, by two programs of its own; what arrives is compared byte by byte.

    python -m tests.scenarios.pouring pour ADDRESS PORT RATE    bytes a second, until its stdin ends
    python -m tests.scenarios.pouring basin ADDRESS PORT

They are told, and tell, what those of tests.scenarios.paced are and do.
"""

from __future__ import annotations

import json
import random
import select
import socket
import sys
import time
from typing import Final

from tests.scenarios.paced import Flow, Program, told
from tests.scenarios.places import Namespace
from tests.waiting import DEADLINE_S

PORT: Final = 9100
_TICK_S: Final = 0.01
_PERIOD: Final = 65_521
"""Bytes after which the stream repeats itself: a prime, so that nothing that is moved looks right."""
_PATTERN: Final = memoryview(random.Random(1).randbytes(_PERIOD) * 18)
_ROOM: Final = 1 << 20


class Poured(Flow):
    """The stream from ``with`` to its end."""

    def __init__(
        self, source: Namespace, target: Namespace, address: str, rate: int, *, port: int = PORT
    ) -> None:
        super().__init__(
            sink=Program(target, __spec__.name, "basin", address, str(port)),
            sender=Program(source, __spec__.name, "pour", address, str(port), str(rate)),
        )

    def on_its_way(self) -> int:
        """Bytes that were sent and have not arrived yet.  Raises AssertionError when others have arrived, or
        the connection has ended."""
        arrived = self._sink.tell("say")
        if not arrived["intact"] or not arrived["open"]:
            raise AssertionError(f"the TCP stream is broken: {arrived}")
        return int(self._sender.tell("say")["sent"]) - int(arrived["received"])


def _piece(position: int, length: int) -> memoryview:
    start = position % _PERIOD
    return _PATTERN[start : start + length]


def _pour(address: str, port: int, rate: int) -> dict[str, object]:
    piece = max(1, round(rate * _TICK_S))
    with socket.create_connection((address, port), timeout=DEADLINE_S) as out:
        out.settimeout(None)
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
            due = now + _TICK_S
            if select.select([], [out], [], 0)[1]:
                sent += out.send(_piece(sent, piece), socket.MSG_DONTWAIT)
    return {"sent": sent}


def _basin(address: str, port: int) -> dict[str, object]:
    room = memoryview(bytearray(_ROOM))
    found: dict[str, object] = {"received": 0, "intact": True, "open": True}
    position = 0
    with socket.create_server((address, port)) as listener:
        print("ready", flush=True)  # noqa: T201
        into, _ = listener.accept()
    with into:
        while (line := told(0)) != "":
            if line is not None:
                _say(found)
            watched = [into.fileno(), 0] if found["open"] else [0]
            if not select.select(watched, [], [])[0] or not found["open"]:
                continue
            try:
                count = into.recv_into(room, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            except OSError:
                count = 0
            found["open"] = count > 0
            found["intact"] = found["intact"] and room[:count] == _piece(position, count)
            found["received"] = position = position + count
    return found


def _say(found: object) -> None:
    print(json.dumps(found), flush=True)  # noqa: T201


def _main(role: str, address: str, port: str, *rate: str) -> None:
    if role == "pour":
        print("ready", flush=True)  # noqa: T201
        _say(_pour(address, int(port), int(rate[0])))
    else:
        _say(_basin(address, int(port)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
