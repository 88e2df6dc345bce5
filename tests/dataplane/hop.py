"""A hop through the kernel: what it makes of a frame with offloads for a device without any."""

from __future__ import annotations

import errno
import os
import select
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from epaird.dataplane.coalesce import Delivery
from epaird.kernel import namespace, tun
from tests.dataplane.datagrams import MAC_A, MAC_B
from tests.kernel.named import within
from tests.waiting import DEADLINE_S

END = bytes(10) + MAC_B + MAC_A + b"\x88\xb5"
"""A frame that marks the end of what was written."""
LONGEST = 1 << 17
"""More bytes than any frame has."""


def ip(netns: str, command: str) -> None:
    subprocess.run(["ip", "-n", netns, *command.split()], check=True, capture_output=True)


class Hop:
    """A namespace that bridges a device with every offload to one with none.

    So a super-frame written to the first is segmented, and its checksums completed, by the kernel
    before it can be read from the second."""

    def __init__(self, into: int, out: int) -> None:
        self._into, self._out = into, out

    def single(self, frames: Sequence[bytes]) -> list[bytes]:
        """Return the frames that come out when these are written one by one."""
        for frame in frames:
            self._write(frame)
        return self._read()

    def delivered(self, frames: Sequence[bytes], deliveries: Sequence[Delivery]) -> list[bytes]:
        """Return the frames that come out when these are written as planned."""
        for buffers, slots in deliveries:
            if buffers is not None:
                os.writev(self._into, buffers)
            else:
                for slot in slots:
                    self._write(frames[slot])
        return self._read()

    def _write(self, frame: bytes) -> None:
        """Write a frame that the kernel may refuse for its virtio_net_hdr."""
        try:
            os.write(self._into, frame)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise

    def _read(self) -> list[bytes]:
        """Return the frames before the end mark."""
        os.write(self._into, END)
        arrived: list[bytes] = []
        deadline = time.monotonic() + DEADLINE_S
        while True:
            ready, _, _ = select.select([self._out], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"no end mark after {len(arrived)} frames"
            frame = os.read(self._out, LONGEST)
            if frame[10:] == END[10:]:
                return arrived
            arrived.append(frame)


@contextmanager
def home(name: str, *devices: tuple[str, bool]) -> Iterator[list[int]]:
    """A namespace with these TAP devices, each with or without offloads; yields their descriptors."""
    with ExitStack() as stack:
        namespace.create(name)
        stack.callback(namespace.remove, name)
        opened: list[int] = []
        with within(name):
            # No neighbour discovery among the frames that the tests write.
            for path in ("all", "default"):
                Path(f"/proc/sys/net/ipv6/conf/{path}/disable_ipv6").write_text("1")
            for device, offload in devices:
                tap = tun.open_tap(device, offload=offload)
                stack.callback(tap.close)
                opened.append(tap.fds[0])
        yield opened


@contextmanager
def bridged(name: str) -> Iterator[Hop]:
    """A hop in a new namespace of this name."""
    with home(name, ("eptin", True), ("eptout", False)) as (into, out):
        ip(name, "link add eptbr type bridge mcast_snooping 0")
        for device in ("eptin", "eptout"):
            ip(name, f"link set {device} master eptbr")
            ip(name, f"link set {device} up mtu 9500 txqueuelen 5000")
        ip(name, "link set eptbr up mtu 9500")
        yield Hop(into, out)
