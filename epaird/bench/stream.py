"""Sender and receiver of a TCP stream, programs that ``epaird bench`` starts in its namespaces.

They are for machines without iperf3, and for streams that need some time to reach their rate: iperf3 takes
whole seconds, and counts what has arrived when its control connection, over the same cable, says so.

python -m epaird.bench.stream receive ADDRESS [WARM_UP SECONDS]    prints "ready", then its results in JSON
python -m epaird.bench.stream send ADDRESS SECONDS [CONGESTION]
"""

from __future__ import annotations

import contextlib
import json
import math
import socket
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from epaird.bench.output import write_line

PORT: Final = 9864
_CHUNK: Final = 1 << 17
"""Bytes per system call, as in iperf3."""
CONGESTION: Final = "cubic"
"""Congestion control of a measured stream, because the machine's default affects the rate strongly."""
_WINDOW: Final = Path("/proc/sys/net/ipv4/tcp_rmem")


@dataclass(frozen=True, slots=True)
class ReceivedStream:
    """The results of a receiver."""

    octets: int
    """Bytes received."""
    seconds: float
    """Time from the first of them to the last."""
    window: int
    """The largest receive buffer that the kernel gives a stream, in bytes."""


def receive(address: str, warm_up: float = 0.0, seconds: float = math.inf) -> ReceivedStream:
    """Receive one stream, for ``seconds`` after ``warm_up`` seconds that do not count, or to its end."""
    with socket.create_server((address, PORT)) as server:
        write_line("ready")
        stream, _ = server.accept()
    buffer = bytearray(_CHUNK)
    with stream:
        octets = stream.recv_into(buffer)
        start = now = time.monotonic()
        counted = start + warm_up
        while now < counted and stream.recv_into(buffer):
            octets = 0
            start = now = time.monotonic()
        while now < start + seconds and (got := stream.recv_into(buffer)):
            octets += got
            now = time.monotonic()
    return ReceivedStream(octets, max(now - start, 1e-6), int(_WINDOW.read_text().split()[2]))


def send(address: str, seconds: float, congestion: str = CONGESTION) -> None:
    """Send for ``seconds``, or until the receiver has had enough."""
    chunk = memoryview(bytes(_CHUNK))
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
        with contextlib.suppress(OSError):
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
        stream.connect((address, PORT))
        end = time.monotonic() + seconds
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < end:
                stream.sendall(chunk)


def usable(congestion: str) -> bool:
    """Return whether the kernel has a congestion control algorithm, or loads its module now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream, contextlib.suppress(OSError):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
        return True
    return False


def main(arguments: list[str]) -> int:
    """Run the program named by the first argument."""
    if arguments[0] == "receive":
        write_line(json.dumps(asdict(receive(arguments[1], *map(float, arguments[2:])))))
    else:
        send(arguments[1], float(arguments[2]), *arguments[3:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
