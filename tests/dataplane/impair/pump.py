"""A cable of two namespaces whose frames pass a function of the test, forwarded by a thread."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from epaird.dataplane.frames import FRAME_MAX
from epaird.kernel import namespace, tun
from tests.kernel.named import within
from tests.scenarios.background_thread import BackgroundThread
from tests.scenarios.namespaces import Namespace

Change = Callable[[memoryview, int], Sequence[bytes | memoryview]]
"""What is delivered of a frame of so many bytes at the start of a buffer."""
ADDRESSES: Final = (("10.9.0.1", "fd00::a"), ("10.9.0.2", "fd00::b"))
MACS: Final = ("02:00:00:00:00:0a", "02:00:00:00:00:0b")


class Pump(BackgroundThread):
    """Forwards between two TAP devices; ``change`` sees the frames of the first."""

    def __init__(self, ends: tuple[Namespace, Namespace], fds: Sequence[int]) -> None:
        super().__init__()
        self.ends = ends
        self.change: Change = lambda frame, length: (frame[:length],)
        self.failures: list[Exception] = []
        """What went wrong in ``change`` or in a write: the frame is not delivered then."""
        self._fds = fds
        self._buffer = memoryview(bytearray(FRAME_MAX + 1))

    def step(self) -> None:
        readable, _, _ = select.select(self._fds, [], [], 0.05)
        for fd in readable:
            source = self._fds.index(fd)
            with contextlib.suppress(BlockingIOError):
                for _ in range(32):
                    length = os.readv(fd, [self._buffer])
                    self._forward(source, length)

    def deliver(self, frame: bytes) -> None:
        """Deliver a frame to the second end."""
        os.write(self._fds[1], frame)

    def _forward(self, source: int, length: int) -> None:
        try:
            frames = self.change(self._buffer, length) if not source else (self._buffer[:length],)
            for frame in frames:
                os.write(self._fds[1 - source], frame)
        except Exception as error:  # noqa: BLE001
            self.failures.append(error)


@contextlib.contextmanager
def pumped(name: str) -> Iterator[Pump]:
    """Two namespaces, named with this prefix, that are connected."""
    with contextlib.ExitStack() as stack:
        ends, fds = [], []
        for letter, addresses, mac in zip("ab", ADDRESSES, MACS, strict=True):
            end = Namespace(name + letter, stack)
            namespace.create(end.name)
            stack.callback(namespace.remove, end.name)
            with within(end.name):
                tap = tun.open_tap("ept0")
                stack.callback(tap.close)
            fds.append(tap.fds[0])
            os.set_blocking(tap.fds[0], False)
            end.ip(f"addr add {addresses[0]}/24 dev ept0")
            end.ip(f"addr add {addresses[1]}/64 dev ept0 nodad")
            end.ip(f"link set ept0 address {mac} up txqueuelen 5000")
            ends.append(end)
        with Pump((ends[0], ends[1]), fds) as pump:
            yield pump


def statistics(place: Namespace) -> dict[str, int]:
    """Return a namespace's counters by name, as nstat shows them: TcpRetransSegs, Ip6InReceives."""
    found: dict[str, int] = {}
    with place.inside():
        for file in ("snmp", "netstat"):
            lines = Path("/proc/thread-self/net", file).read_text().splitlines()
            for names, values in zip(lines[::2], lines[1::2], strict=True):
                kind = names.partition(":")[0]
                counted = zip(names.split()[1:], values.split()[1:], strict=True)
                found |= {kind + each: int(value) for each, value in counted}
        for line in Path("/proc/thread-self/net/snmp6").read_text().splitlines():
            each, value = line.split()
            found[each] = int(value)
    return found


def checksum_errors(place: Namespace) -> int:
    """Return how many packets a namespace has received with a wrong checksum, of any protocol.

    TcpInCsumErrors counts those over IPv6 too, and every error of a header is among Ip(6)InHdrErrors."""
    found = statistics(place)
    names = [name for name in found if name.endswith("InCsumErrors")]
    assert len(names) > 4
    return sum(found[name] for name in names) + found["IpInHdrErrors"] + found["Ip6InHdrErrors"]
