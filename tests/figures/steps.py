"""The cost of a frame, step by step: each step of the path measured separately, over real devices.

    python -m tests.figures.steps

Full bursts of equal datagrams, written one by one and coalesced. The same system calls are also made from C:
their time is the kernel's, and the remainder is Python's. A step that cannot be measured separately is the
difference between a whole and its parts.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import uvloop

from epaird.bench.mmsg import Batch
from epaird.dataplane.burst import BURST_FRAMES, SLOT, Burst
from epaird.dataplane.coalesce import Coalescer
from epaird.dataplane.spin import Spin
from epaird.ipc.counters import HELD_BYTES
from tests.figures.cable import BLUE, Cable
from tests.figures.tables import print_table

clock = time.perf_counter_ns

ROUNDS: Final = 3000
TURNS: Final = 20_000
SIZE: Final = 64

_C: Final = r"""
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}
int64_t reads(int fd, char *arena, long slot, int count) {
    int64_t start = now();
    for (int i = 0; i < count; i++) if (read(fd, arena + i * slot, slot) < 0) break;
    return now() - start;
}
int64_t writes(int fd, const char *arena, long slot, int count, long length) {
    int64_t start = now();
    for (int i = 0; i < count; i++) if (write(fd, arena + i * slot, length) < 0) return -1;
    return now() - start;
}
int64_t gathered(int fd, const struct iovec *vector, int count) {
    int64_t start = now();
    if (writev(fd, vector, count) < 0) return -1;
    return now() - start;
}
int64_t turns(int fd, int count) {
    struct epoll_event event = {.events = EPOLLIN}, found[1024];
    int epoll = epoll_create1(0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    int64_t start = now();
    for (int i = 0; i < count; i++) epoll_pwait(epoll, found, 1024, -1, 0);
    int64_t took = now() - start;
    close(epoll);
    return took;
}
"""


@contextlib.contextmanager
def compiled() -> Iterator[ctypes.CDLL]:
    """Compile the calls made from C."""
    with tempfile.TemporaryDirectory() as directory:
        source, library = Path(directory, "calls.c"), Path(directory, "calls.so")
        source.write_text(_C)
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
        calls = ctypes.CDLL(str(library))
        for name in ("reads", "writes", "gathered", "turns"):
            getattr(calls, name).restype = ctypes.c_int64
        yield calls


class Steps:
    """The steps over one cable; each method returns the nanoseconds of a full burst."""

    def __init__(self, cable: Cable, calls: ctypes.CDLL) -> None:
        self._cable, self._calls = cable, calls
        self._receiver, self._sender = (cable.endpoint(place, socket.SOCK_DGRAM) for place in ("blue", "red"))
        self._receiver.bind((BLUE, 0))
        self._sender.connect(self._receiver.getsockname())
        cable.resolve_neighbours(self._sender, self._receiver)
        self._outgoing, self._incoming = Batch(BURST_FRAMES, SIZE), Batch(BURST_FRAMES, SIZE)
        self._burst = Burst()
        self._coalescer = Coalescer(self._burst.arena, SLOT)
        self._slots = [self._burst.arena[slot * SLOT : (slot + 1) * SLOT] for slot in range(BURST_FRAMES)]
        self._arena = ctypes.byref(ctypes.c_char.from_buffer(self._burst.arena))

    def reads(self) -> int:
        self._fill()
        read, slots = self._cable.red.read, self._slots
        start = clock()
        for slot in slots:
            read(slot)
        return clock() - start

    def reads_from_c(self) -> int:
        self._fill()
        took: int = self._calls.reads(self._cable.red.fd, self._arena, SLOT, BURST_FRAMES)
        return took

    def burst_read(self) -> int:
        self._fill()
        start = clock()
        self._burst.read(self._cable.red.read, self._cable.red.limit, BURST_FRAMES)
        return clock() - start

    def join(self) -> int:
        self.burst_read()
        start = clock()
        self._coalescer.join(self._burst.lengths)
        return clock() - start

    def burst_write(self) -> int:
        self.burst_read()
        start = clock()
        self._burst.write(self._cable.blue.fd)
        return clock() - start

    def writes(self) -> int:
        self.burst_read()
        frames, write, fd = self._burst.frames(self._burst.accepted()), os.write, self._cable.blue.fd
        start = clock()
        for frame in frames:
            write(fd, frame)
        return clock() - start

    def writes_from_c(self) -> int:
        self.burst_read()
        length = ctypes.c_long(self._burst.lengths[0])
        took: int = self._calls.writes(self._cable.blue.fd, self._arena, SLOT, BURST_FRAMES, length)
        return took

    def writev(self) -> int:
        buffers = self._joined()
        start = clock()
        os.writev(self._cable.blue.fd, buffers)
        return clock() - start

    def writev_from_c(self) -> int:
        buffers = [bytearray(each) for each in self._joined()]
        vector = (ctypes.c_size_t * (2 * len(buffers)))()
        for place, each in enumerate(buffers):
            vector[2 * place] = ctypes.addressof(ctypes.c_char.from_buffer(each))
            vector[2 * place + 1] = len(each)
        took: int = self._calls.gathered(self._cable.blue.fd, vector, len(buffers))
        return took

    def transmit(self) -> int:
        return self._transmit(joined=False)

    def transmit_joined(self) -> int:
        return self._transmit(joined=True)

    def beat(self) -> int:
        """Measure the rest of WorkerLoop._readable."""
        words, spin = self._cable.red.account.words, Spin(50)
        start = clock()
        words[HELD_BYTES] = now_ns = time.monotonic_ns()
        spin.forwarded(now_ns)
        return clock() - start

    def _transmit(self, *, joined: bool) -> int:
        self._cable.red.coalesce = joined
        self._fill()
        start = clock()
        self._cable.pipeline.transmit(self._cable.red)
        return clock() - start

    def _joined(self) -> Sequence[bytes | memoryview]:
        while True:
            self.burst_read()
            deliveries = self._coalescer.join(self._burst.lengths) or ()
            # Where a header's field wraps there are two deliveries.
            if len(deliveries) == 1 and deliveries[0].buffers is not None:
                return deliveries[0].buffers

    def _fill(self) -> None:
        """Put a burst into the ring and make room at the receiver."""
        while self._incoming.receive(self._receiver, socket.MSG_DONTWAIT):
            pass
        self._outgoing.send(self._sender, 0)


def turn() -> float:
    """Return the nanoseconds of a loop turn that finds one descriptor readable and calls its reader."""
    loop, left = uvloop.new_event_loop(), TURNS
    ready = os.eventfd(1)

    def readable(_interface: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            loop.stop()

    loop.add_reader(ready, readable, None)
    start = clock()
    loop.run_forever()
    took = clock() - start
    loop.remove_reader(ready)
    loop.close()
    os.close(ready)
    return took / TURNS


def turn_from_c(calls: ctypes.CDLL) -> float:
    """Return the nanoseconds of a turn's system call."""
    ready = os.eventfd(1)
    took: int = calls.turns(ready, TURNS)
    os.close(ready)
    return took / TURNS


def measured() -> dict[str, float]:
    """Return the nanoseconds of each step a frame, as the median of all rounds."""
    with compiled() as calls, Cable() as cable:
        steps = Steps(cable, calls)
        names = [name for name in vars(Steps) if not name.startswith("_")]
        samples: dict[str, list[int]] = {name: [] for name in names}
        for _ in range(ROUNDS):
            for name in names:
                samples[name].append(getattr(steps, name)())
        found = {name: statistics.median(each) / BURST_FRAMES for name, each in samples.items()}
        found["turn"] = statistics.median(turn() for _ in range(9)) / BURST_FRAMES
        found["turn_from_c"] = statistics.median(turn_from_c(calls) for _ in range(9)) / BURST_FRAMES
        return found


class Row(NamedTuple):
    """A step, with nanoseconds a frame in Python and in the kernel: one by one, and coalesced."""

    step: str
    source: str
    figures: tuple[float, float, float, float]


def rows(found: Mapping[str, float]) -> list[Row]:
    """Return the steps in their order and their sums."""

    def call(name: str) -> tuple[float, float]:
        return found[name] - found[f"{name}_from_c"], found[f"{name}_from_c"]

    def python(single: float, joined: float) -> tuple[float, float, float, float]:
        return single, 0.0, joined, 0.0

    checking, read = found["burst_read"] - found["reads"], found["burst_read"]
    cutting = found["burst_write"] - found["writes"]
    rest = found["transmit"] - read - found["burst_write"]
    rest_joined = found["transmit_joined"] - read - found["join"] - found["writev"]
    steps = [
        Row("a turn of the loop", "`worker.py`: `WorkerLoop._readable`", call("turn") * 2),
        Row("heartbeat, poll again?", "`spin.py`: `Spin.forwarded`", python(found["beat"], found["beat"])),
        Row("`read()`", "`burst.py`: `Burst.read`", call("reads") * 2),
        Row("check its length, note it", "`burst.py`: `Burst.read`", python(checking, checking)),
        Row("find what can be joined", "`coalesce.py`: `Coalescer.join`", python(0.0, found["join"])),
        Row("cut it out of its slot", "`burst.py`: `Burst.write`", python(cutting, 0.0)),
        Row("`write()`", "`burst.py`: `Burst.write`", (*call("writes"), 0.0, 0.0)),
        Row("`writev()`", "`crossconnect.py`: `CrossConnect.deliver`", (0.0, 0.0, *call("writev"))),
        Row("counters", "`account.py`: `crossed`", python(rest, rest_joined)),
    ]
    a, b, c, d = (sum(column) for column in zip(*(each.figures for each in steps), strict=True))
    return [*steps, Row("together", "", (a, b, c, d))]


def main() -> None:
    """Measure and print the table."""
    table = rows(measured())
    *_, together = table

    def cells(row: Row) -> Iterator[str]:
        for at in (0, 2):
            python, kernel = row.figures[at : at + 2]
            share = (python + kernel) / sum(together.figures[at : at + 2])
            yield from (f"{python:.0f}", f"{kernel:.0f}", f"{share:.0%}") if python + kernel else ("", "", "")

    by = "each by itself: Python, ns", "kernel, ns", "share", "joined: Python, ns", "kernel, ns", "share"
    print_table(("step", "source", *by), [(row.step, row.source, *cells(row)) for row in table])


if __name__ == "__main__":
    main()
