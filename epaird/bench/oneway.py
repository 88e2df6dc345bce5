"""Sender and receiver that measure one-way delays, programs that ``epaird bench`` starts in its namespaces.

    python -m epaird.bench.oneway receive ADDRESS DELAY_MS           prints "ready"; ends as a sink does
    python -m epaird.bench.oneway send ADDRESS PER_SECOND SECONDS    prints how many datagrams it has sent

Each datagram carries the time at which it is sent. The receiver compares it with the time at which its kernel
received the datagram (SO_TIMESTAMPNS), so the delay includes both kernels' work and the wake-ups of what
forwards, but not that of the receiver. Its error is the difference to the delay that the cable is to have.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

from epaird.bench.output import stdin_ended, write_line
from epaird.bench.roundtrip import PERCENTILES
from epaird.bench.statistics import percentile
from epaird.kernel import abi
from epaird.kernel.netlink import set_receive_buffer

PORT: Final = 9866
_SENT: Final = struct.Struct("<Q56x")
"""The time in nanoseconds, and zeros up to 64 bytes."""
_RECEIVED: Final = struct.Struct("qq")
"""struct __kernel_timespec."""
_RECEIVE_BUFFER: Final = 1 << 22
_SILENCE_S: Final = 0.2
"""Silence after which the receiver regards everything as received, beyond the delay."""
_WARM_UP: Final = 20
"""Datagrams that are not counted: the first ones meet cold caches and idle cores."""


@dataclass(frozen=True, slots=True)
class DelayErrors:
    """The results of a receiver."""

    datagrams: int
    """Datagrams that arrived."""
    microseconds: tuple[float, ...]
    """Absolute errors at PERCENTILES; empty when nothing was counted."""
    mean_us: float
    """Mean of the errors with their sign: above 0, the delay was too long."""


def send(address: str, per_second: float, seconds: float) -> int:
    """Send at a rate for ``seconds``; return how many were sent. One that is overdue is sent at once."""
    clock, period, total = time.monotonic, 1 / per_second, int(per_second * seconds)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flow:
        flow.connect((address, PORT))
        start = clock()
        for number in range(total):
            if (wait := start + number * period - clock()) > 0:
                time.sleep(wait)
            flow.send(_SENT.pack(time.clock_gettime_ns(time.CLOCK_REALTIME)))
    return total


def receive(
    address: str, delay_ms: float, ready: Callable[[], object], ended: Callable[[], bool]
) -> DelayErrors:
    """Receive until ``ended`` returns True and no datagram has arrived for a while.

    ``ready`` is called when the socket is ready.
    """
    errors: list[float] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flow:
        set_receive_buffer(flow, _RECEIVE_BUFFER)
        flow.setsockopt(socket.SOL_SOCKET, abi.SO_TIMESTAMPNS_NEW, 1)
        flow.bind((address, PORT))
        flow.settimeout(delay_ms / 1000 + _SILENCE_S)
        ready()
        while True:
            try:
                data, ancillary, _, _ = flow.recvmsg(_SENT.size, socket.CMSG_SPACE(_RECEIVED.size))
            except TimeoutError:
                if ended():
                    return delay_errors(errors)
                continue
            (sent,), (seconds, nanoseconds) = _SENT.unpack(data), _RECEIVED.unpack(ancillary[0][2])
            errors.append((seconds * 10**9 + nanoseconds - sent) / 1e3 - delay_ms * 1e3)


def delay_errors(errors: list[float]) -> DelayErrors:
    """Summarise errors in microseconds, in the order of arrival."""
    counted = errors[_WARM_UP:] or errors
    if not counted:
        return DelayErrors(0, (), 0.0)
    ordered = sorted(map(abs, counted))
    at = tuple(percentile(ordered, percent) for percent in PERCENTILES)
    return DelayErrors(len(errors), at, sum(counted) / len(counted))


def main(arguments: list[str]) -> int:
    """Run the program named by the first argument."""
    if arguments[0] == "receive":
        errors = receive(arguments[1], float(arguments[2]), lambda: write_line("ready"), stdin_ended)
        write_line(json.dumps(asdict(errors)))
    else:
        write_line(str(send(arguments[1], float(arguments[2]), float(arguments[3]))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
