"""A paced TCP stream, sent and received by programs of their own and compared byte by byte.

    python -m tests.scenarios.byte_stream send ADDRESS PORT RATE    bytes a second, until stdin ends
    python -m tests.scenarios.byte_stream sink ADDRESS PORT

``tests.scenarios.programs`` describes their protocol.
"""

from __future__ import annotations

import random
import select
import socket
import sys
from typing import Final

from tests.scenarios.namespaces import Namespace
from tests.scenarios.programs import (
    Flow,
    Program,
    print_ready,
    print_results,
    read_command,
    run_program,
    send_paced,
)
from tests.waiting import DEADLINE_S

PORT: Final = 9100
_TICK_S: Final = 0.01
_PERIOD: Final = 65_521
"""Bytes after which the stream repeats: a prime, so that displaced data never matches."""
_PATTERN: Final = memoryview(random.Random(1).randbytes(_PERIOD) * 18)
_ROOM: Final = 1 << 20


class ByteStream(Flow):
    """The stream, from ``with`` to its end."""

    def __init__(
        self, source: Namespace, target: Namespace, address: str, rate: int, *, port: int = PORT
    ) -> None:
        super().__init__(
            sink=Program(target, __spec__.name, "sink", address, str(port)),
            sender=Program(source, __spec__.name, "send", address, str(port), str(rate)),
        )

    def in_flight(self) -> int:
        """Return the bytes sent that have not arrived yet.

        Raises AssertionError when other bytes have arrived or the connection has ended."""
        arrived = self._sink.command("report")
        if not arrived["intact"] or not arrived["open"]:
            raise AssertionError(f"the TCP stream is broken: {arrived}")
        return int(self._sender.command("report")["sent"]) - int(arrived["received"])


def _piece(position: int, length: int) -> memoryview:
    start = position % _PERIOD
    return _PATTERN[start : start + length]


def _send(address: str, port: int, rate: int) -> dict[str, object]:
    piece = max(1, round(rate * _TICK_S))
    with socket.create_connection((address, port), timeout=DEADLINE_S) as out:
        out.settimeout(None)

        def send(sent: int) -> int:
            if not select.select([], [out], [], 0)[1]:
                return 0
            return out.send(_piece(sent, piece), socket.MSG_DONTWAIT)

        return send_paced(send, _TICK_S)


def _receive(address: str, port: int) -> dict[str, object]:
    room = memoryview(bytearray(_ROOM))
    results: dict[str, object] = {"received": 0, "intact": True, "open": True}
    position = 0
    with socket.create_server((address, port)) as listener:
        print_ready()
        into, _ = listener.accept()
    with into:
        while (line := read_command(0)) != "":
            if line is not None:
                print_results(results)
            watched = [into.fileno(), 0] if results["open"] else [0]
            if not select.select(watched, [], [])[0] or not results["open"]:
                continue
            try:
                count = into.recv_into(room, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            except OSError:
                count = 0
            results["open"] = count > 0
            results["intact"] = results["intact"] and room[:count] == _piece(position, count)
            results["received"] = position = position + count
    return results


if __name__ == "__main__":
    run_program(sys.argv[1:], send=_send, receive=_receive)
