"""The two ends of a TCP stream, for machines without iperf3, programs that ``epaird bench`` starts.

python -m epaird.bench.stream receive ADDRESS              says "ready", then what came, in JSON
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

PORT: Final = 9864
_CHUNK: Final = 1 << 17
"""Bytes a system call, as many as iperf3's."""
CONGESTION: Final = "cubic"
"""Of every stream measured, because what is the machine's default makes a great difference."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What arrived of a stream."""

    octets: int
    seconds: float
    """From its first byte to its end."""


def receive(address: str) -> Stream:
    """Take one stream, to its end."""
    with socket.create_server((address, PORT)) as server:
        _say("ready")
        stream, _ = server.accept()
    buffer = bytearray(_CHUNK)
    with stream:
        octets = stream.recv_into(buffer)
        start = time.monotonic()
        while got := stream.recv_into(buffer):
            octets += got
        return Stream(octets, max(time.monotonic() - start, 1e-6))


def send(address: str, seconds: float) -> None:
    """Send until the time is over."""
    chunk = memoryview(bytes(_CHUNK))
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
        if CONGESTION in available():
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION.encode())
        stream.connect((address, PORT))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            stream.sendall(chunk)


def available() -> tuple[str, ...]:
    """The kernel's algorithms of congestion control."""
    with contextlib.suppress(OSError):
        return tuple(Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split())
    return ()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Be what the first argument says."""
    if arguments[0] == "receive":
        _say(json.dumps(asdict(receive(arguments[1]))))
    else:
        send(arguments[1], float(arguments[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
