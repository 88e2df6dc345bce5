"""Two flows over one queue and over two: datagrams forwarded a second.

    python -m tests.figures.queues [--rounds N] [--keep FILE]
    python -m tests.figures.queues --send ADDRESS PORT SOURCE SOURCE    sends after a line on stdin

The endpoints must not be the bottleneck: the sender's kernel makes 64 datagrams of a message (UDP_SEGMENT;
the cable has no offload and coalesces nothing), and the receiver reads none. RATE is more than one worker can
forward.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from epaird.bench.mmsg import Batch, enable_segmentation
from tests.figures.tables import figure_parser, measure_in_turn, merged, print_table
from tests.scenarios.lab import Lab, pair
from tests.scenarios.namespaces import Namespace
from tests.scenarios.transfers import BLUE, add_neighbour, ping

QUEUES: Final = (1, 2)
RATE: Final = 500_000
SECONDS: Final = 1.0
SIZE: Final = 64
_PORTS: Final = range(20_000, 20_064)
_SEGMENTS: Final = 64
_NAP_S: Final = 0.001


def send(address: str, port: int, sources: list[int]) -> None:
    """Send flows in turn, RATE datagrams a second in total."""
    with contextlib.ExitStack() as stack:
        flows = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in sources]
        for flow, source in zip(flows, sources, strict=True):
            flow.bind(("", source))
            flow.connect((address, port))
            enable_segmentation(flow, SIZE)
        batch, sent = Batch(1, SIZE, _SEGMENTS), 0
        print("ready", flush=True)  # noqa: T201
        sys.stdin.readline()
        start = time.monotonic()
        while (now := time.monotonic() - start) < SECONDS:
            for flow in flows:
                sent += batch.send(flow, 0)
            if sent / RATE - now > _NAP_S:
                time.sleep(sent / RATE - now)
        print(sent / (time.monotonic() - start))  # noqa: T201


def measured(queues: int) -> tuple[float, float]:
    """Return the datagrams delivered a second, and those offered."""
    with Lab() as lab:
        red, blue = (lab.namespace(name, ipv6=False) for name in ("red", "blue"))
        daemon = lab.daemon(pair(ipv6=False, queues=queues, offload=False), workers=2)
        ping(red, BLUE)
        add_neighbour(red, blue, BLUE)
        receiver = blue.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind((BLUE, 0))
        sources = _apart(red, receiver, daemon.workers(), queues)
        command = ("--send", BLUE, str(receiver.getsockname()[1]), *map(str, sources))
        with red.inside():
            sender = subprocess.Popen(
                [sys.executable, "-m", "tests.figures.queues", *command],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        with sender:
            if sender.stdout is None or sender.stdout.readline() != "ready\n":
                raise RuntimeError("the sender is not ready")
            before = daemon.metrics().interface("epair0b").ipackets
            start = time.monotonic()
            offered, _ = sender.communicate("\n")
            delivered = daemon.metrics().interface("epair0b").ipackets - before
            took = time.monotonic() - start
        lab.finish()
        return delivered / took, float(offered)


def _apart(red: Namespace, receiver: socket.socket, workers: list[int], queues: int) -> list[int]:
    """Return source ports of two flows, each the first flow of a queue if there are two queues."""
    found: dict[int, int] = {}
    for port in _PORTS:
        with red.socket(socket.AF_INET, socket.SOCK_DGRAM) as flow:
            flow.bind(("", port))
            before = [_read(pid) for pid in workers]
            flow.sendto(bytes(SIZE), receiver.getsockname())
            receiver.recv(2 * SIZE)
            grown = [_read(pid) > then for pid, then in zip(workers, before, strict=True)]
        found.setdefault(grown.index(True), port)
        if len(found) == queues:
            break
    return list(found.values()) if queues > 1 else list(_PORTS[:2])


def _read(pid: int) -> int:
    """Return the bytes that a process has read."""
    return int(Path(f"/proc/{pid}/io").read_text().split()[1])


def main() -> None:
    """Measure and print the table."""
    parser = figure_parser(__doc__, rounds=7)
    parser.add_argument("--send", nargs=4)
    chosen = parser.parse_args()
    if chosen.send:
        address, port, *sources = chosen.send
        send(address, int(port), list(map(int, sources)))
        return
    found = measure_in_turn(chosen.rounds, QUEUES, measured)
    all_figures = merged(chosen.keep, {str(queues): rows for queues, rows in found.items()})
    one = [delivered for delivered, _ in all_figures["1"]]
    rows = []
    for queues, figures in all_figures.items():
        ratios = [delivered / single for (delivered, _), single in zip(figures, one, strict=True)]
        median, low, high = statistics.median(ratios), min(ratios), max(ratios)
        a_second = statistics.median(delivered for delivered, _ in figures)
        rows.append([queues, f"{a_second:,.0f}", f"{median:.2f} ({low:.2f} to {high:.2f})"])
    print_table(["queues", "delivered a second", "of one queue's"], rows)


if __name__ == "__main__":
    main()
