"""The datagrams that a kernel makes of super-frames, compared with the same datagrams written one by one."""

from __future__ import annotations

import errno
import os
import select
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from epaird.dataplane.coalesce import Delivery
from epaird.kernel import namespace, tun
from tests.dataplane.bursts import bursts
from tests.dataplane.datagrams import MAC_A, MAC_B, Datagram
from tests.dataplane.test_coalesce import BURST, SLOT, series
from tests.kernel.named import within
from tests.waiting import DEADLINE_S

pytestmark = pytest.mark.real

END = bytes(10) + MAC_B + MAC_A + b"\x88\xb5"
"""A frame that marks the end of what was written."""


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
            frame = os.read(self._out, SLOT)
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


@pytest.fixture(scope="module")
def hop() -> Iterator[Hop]:
    name = f"eptcoh{os.getpid()}"
    with home(name, ("eptin", True), ("eptout", False)) as (into, out):
        ip(name, "link add eptbr type bridge mcast_snooping 0")
        for device in ("eptin", "eptout"):
            ip(name, f"link set {device} master eptbr")
            ip(name, f"link set {device} up mtu 9500 txqueuelen 5000")
        ip(name, "link set eptbr up mtu 9500")
        yield Hop(into, out)


@given(bursts())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_next_hop_gets_the_same_bytes_in_the_same_order(hop: Hop, burst: list[Datagram]) -> None:
    frames = [bytes(each) for each in burst]
    deliveries = BURST.plan(frames)
    in_order = [frames[slot] for delivery in deliveries for slot in delivery.slots]
    assert hop.delivered(frames, deliveries) == hop.single(in_order)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [1, 64, 1400, 9000])
def test_the_kernel_cuts_a_super_frame_into_the_datagrams_sent(hop: Hop, version: int, size: int) -> None:
    count = min(64, 65507 // size)
    frames = [
        bytes(each.but(payload=bytes((i,)) * size))
        for i, each in enumerate(series(count, 65535 - count, version=version))
    ]
    deliveries = BURST.plan(frames)
    assert [len(delivery.slots) for delivery in deliveries] == [count]
    arrived = hop.delivered(frames, deliveries)
    assert len(arrived) == count
    assert arrived == hop.single(frames)


@pytest.mark.parametrize("version", [4, 6])
def test_a_socket_receives_every_datagram_in_order(version: int) -> None:
    name = f"eptcos{os.getpid()}"
    family, address = (socket.AF_INET, "10.9.0.2") if version == 4 else (socket.AF_INET6, "fd00::bb")
    payloads = [bytes((i,)) * (700 if i % 20 != 19 else 3) for i in range(64)]
    frames = [bytes(Datagram(payload, version, number=i)) for i, payload in enumerate(payloads)]
    with (
        home(name, ("eptin", True)) as (into,),
        within(name),
        socket.socket(family, socket.SOCK_DGRAM) as receiver,
    ):
        Path("/proc/sys/net/ipv6/conf/eptin/disable_ipv6").write_text("0")
        ip(name, f"link set eptin address {MAC_B.hex(':')} up")
        ip(name, f"addr add {address}/{24 if version == 4 else 64} dev eptin" + " nodad" * (version == 6))
        receiver.settimeout(DEADLINE_S)
        receiver.bind((address, 9999))
        deliveries = BURST.plan(frames)
        assert [len(delivery.slots) for delivery in deliveries] == [20, 20, 20, 4]
        for buffers, slots in deliveries:
            for pieces in [buffers] if buffers is not None else [[frames[slot]] for slot in slots]:
                os.writev(into, pieces)
        assert [receiver.recv(2000) for _ in payloads] == payloads
