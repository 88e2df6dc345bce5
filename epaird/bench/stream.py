"""Sender and receiver of a TCP stream, for machines without iperf3, programs that ``epaird bench`` starts.

python -m epaird.bench.stream receive ADDRESS              prints "ready", then its results in JSON
python -m epaird.bench.stream send ADDRESS SECONDS
"""

from __future__ import annotations

import contextlib
import json
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
"""Congestion control of every measured stream, because the machine's default affects the rate strongly."""


@dataclass(frozen=True, slots=True)
class ReceivedStream:
    """The results of a receiver."""

    octets: int
    """Bytes received."""
    seconds: float
    """Time from the first byte to the end of the stream."""


def receive(address: str) -> ReceivedStream:
    """Receive one stream to its end."""
    with socket.create_server((address, PORT)) as server:
        write_line("ready")
        stream, _ = server.accept()
    buffer = bytearray(_CHUNK)
    with stream:
        octets = stream.recv_into(buffer)
        start = time.monotonic()
        while got := stream.recv_into(buffer):
            octets += got
        return ReceivedStream(octets, max(time.monotonic() - start, 1e-6))


def send(address: str, seconds: float) -> None:
    """Send for ``seconds``."""
    chunk = memoryview(bytes(_CHUNK))
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
        if CONGESTION in available():
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION.encode())
        stream.connect((address, PORT))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            stream.sendall(chunk)


def available() -> tuple[str, ...]:
    """Return the kernel's available congestion control algorithms."""
    with contextlib.suppress(OSError):
        return tuple(Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split())
    return ()


def main(arguments: list[str]) -> int:
    """Run the program named by the first argument."""
    if arguments[0] == "receive":
        write_line(json.dumps(asdict(receive(arguments[1]))))
    else:
        send(arguments[1], float(arguments[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
