"""Transfers over a cable: pings, TCP streams, numbered datagrams and raw frames."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import socket
import struct
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from operator import lt
from typing import Final, Self

from tests.scenarios.background_thread import BackgroundThread
from tests.scenarios.namespaces import Namespace
from tests.sockets import force_receive_buffer
from tests.waiting import DEADLINE_S, until

RED: Final = "10.0.0.1"
BLUE: Final = "10.0.0.2"
RED6: Final = "fd00::1"
BLUE6: Final = "fd00::2"

_CHUNK: Final = 1 << 20
_NUMBER: Final = struct.Struct("!Q")
_ROOMY: Final = 1 << 28
"""Size of a receive buffer in bytes: none of these tests is about a slow receiver."""


def ping(source: Namespace, address: str, *options: str, count: int = 5) -> None:
    """Ping an address; every request must be answered. ``options`` are ping's."""
    # Without -w, ping waits only two round trips for the last reply, which is short on a busy machine.
    output = source.run("ping", "-n", "-i", "0.01", "-c", str(count), "-w", "10", *options, address)
    answered = {int(number) for number in re.findall(r"icmp_seq=(\d+) ", output)}
    if not answered >= set(range(1, count + 1)):
        raise AssertionError(output)


def tcp(source: Namespace, target: Namespace, address: str, octets: int) -> None:
    """Send random bytes by TCP; the bytes received must have the same SHA-256."""
    family = _family(address)
    with target.socket(family, socket.SOCK_STREAM) as listener, ThreadPoolExecutor(1) as thread:
        listener.bind((address, 0))
        listener.listen()
        received = thread.submit(_receive_stream, listener)
        sent = hashlib.sha256()
        with source.socket(family, socket.SOCK_STREAM) as sender:
            sender.connect(listener.getsockname()[:2])
            for start in range(0, octets, _CHUNK):
                chunk = os.urandom(min(_CHUNK, octets - start))
                sent.update(chunk)
                sender.sendall(chunk)
        if received.result() != (octets, sent.hexdigest()):
            raise AssertionError(f"sent {octets} {sent.hexdigest()}, received {received.result()}")


def _receive_stream(listener: socket.socket) -> tuple[int, str]:
    connection, _ = listener.accept()
    digest, octets = hashlib.sha256(), 0
    with connection:
        connection.settimeout(DEADLINE_S)
        while chunk := connection.recv(_CHUNK):
            digest.update(chunk)
            octets += len(chunk)
    return octets, digest.hexdigest()


class Sink:
    """A receiver of numbered datagrams at a free port of an address, from ``with`` to its end."""

    def __init__(self, place: Namespace, address: str) -> None:
        self._numbers: list[int] = []
        self._socket = place.socket(_family(address), socket.SOCK_DGRAM)
        force_receive_buffer(self._socket, _ROOMY)
        self._socket.bind((address, 0))
        self.port: int = self._socket.getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()

    def arrived(self) -> list[int]:
        """Return the numbers of all datagrams received so far, in order of arrival."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._numbers.append(_NUMBER.unpack_from(self._socket.recv(65536))[0])
        self._socket.settimeout(DEADLINE_S)
        return self._numbers

    @property
    def in_order(self) -> bool:
        """True if no datagram came twice and none before an earlier one."""
        return all(map(lt, self._numbers, self._numbers[1:]))

    def await_arrivals(self, count: int) -> None:
        """Wait until ``count`` datagrams have arrived."""
        until(lambda: len(self.arrived()) >= count, lambda: f"{len(self.arrived())} of {count} have arrived")

    def expect(self, number: int, size: int) -> None:
        """Wait for the next datagram, which must have this number and size."""
        data = self._socket.recv(65536)
        if len(data) != size or _NUMBER.unpack_from(data)[0] != number:
            raise AssertionError(f"not datagram {number} of {size} bytes: {len(data)}, {data[:8].hex()}")


def send(source: Namespace, address: str, port: int, numbers: Iterable[int]) -> None:
    """Send datagrams with these numbers in one flow."""
    with source.socket(_family(address), socket.SOCK_DGRAM) as sender:
        for number in numbers:
            sender.sendto(_NUMBER.pack(number), (address, port))


def datagrams(
    source: Namespace, target: Namespace, address: str, count: int, *,
    size: int = 64, window: int = 2000, flows: int = 1,
) -> None:  # fmt: skip
    """Send numbered datagrams, ``count`` in each flow and ``window`` of each in flight.

    Each must arrive once, and in order within its flow.
    """
    # Until it knows the hardware address the kernel keeps a hundred datagrams and drops the others.
    ping(source, address, count=1)
    padding = bytes(size - _NUMBER.size)
    with contextlib.ExitStack() as stack:
        sinks = [stack.enter_context(Sink(target, address)) for _ in range(flows)]
        senders = [stack.enter_context(source.socket(_family(address), socket.SOCK_DGRAM)) for _ in sinks]
        for sender, sink in zip(senders, sinks, strict=True):
            sender.connect((address, sink.port))
        for number in range(count + window):
            if number < count:
                datagram = _NUMBER.pack(number) + padding
                for sender in senders:
                    sender.send(datagram)
            if number >= window:
                for sink in sinks:
                    sink.expect(number - window, size)


def add_neighbour(source: Namespace, target: Namespace, address: str, device: str = "eth0") -> None:
    """Give source a permanent neighbour entry for the target's device, valid while its own device stays up.

    Packets for a neighbour that is still being resolved wait, and leave later than newer ones.
    """
    mac = target.links()[device].mac
    source.ip(f"neigh replace {address} lladdr {mac} dev {device} nud permanent")


class Flood(BackgroundThread):
    """Continuous traffic of numbered datagrams, some thousands a second, from ``with`` to its end.

    It continues when the device is down or gone.
    """

    def __init__(self, source: Namespace, address: str, port: int = 9, *, pause_s: float = 0.0002) -> None:
        super().__init__()
        self.sent = 0
        """Datagrams that the kernel has accepted."""
        self._pause_s = pause_s
        self._socket = source.socket(_family(address), socket.SOCK_DGRAM)
        self._target = (address, port)

    def __exit__(self, *exc_info: object) -> None:
        super().__exit__(*exc_info)
        self._socket.close()

    def wait_for_frames(self, frames: int = 200) -> None:
        """Wait until this many more datagrams have been sent."""
        goal = self.sent + frames
        until(lambda: self.sent >= goal, lambda: f"{self.sent} sent, waiting for {goal}")

    def step(self) -> None:
        """Send a datagram and pause."""
        with contextlib.suppress(OSError):
            self._socket.sendto(_NUMBER.pack(self.sent) + bytes(56), self._target)
            self.sent += 1
        time.sleep(self._pause_s)


ETH_P_ALL: Final = 0x0003
_SOL_PACKET: Final = 263
_PACKET_AUXDATA: Final = 8
_AUXDATA: Final = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata
_TP_STATUS_VLAN_VALID: Final = 0x10
_MAC: Final = 6
BROADCAST: Final = bytes.fromhex("ffffffffffff")
SOURCE_MAC: Final = bytes.fromhex("02aabbccddee")
"""The source address of frames made here, which no device has."""


class RawSocket:
    """A raw socket (AF_PACKET) on a device, VLAN tags included."""

    def __init__(self, place: Namespace, device: str) -> None:
        self._socket = place.socket(socket.AF_PACKET, socket.SOCK_RAW)
        force_receive_buffer(self._socket, _ROOMY)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        self._socket.bind((device, ETH_P_ALL))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()

    def send(self, frame: bytes) -> None:
        """Send a frame that begins with its destination address; a drop by a full ring is no error."""
        try:
            self._socket.send(frame)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise

    def receive(self) -> bytes:
        """Return the next frame received from SOURCE_MAC."""
        while True:
            frame, ancillary, _, address = self._socket.recvmsg(1 << 17, socket.CMSG_SPACE(_AUXDATA.size))
            if address[2] != socket.PACKET_OUTGOING and frame[_MAC : 2 * _MAC] == SOURCE_MAC:
                return tagged_again(frame, ancillary)


def tagged_again(frame: bytes, ancillary: list[tuple[int, int, bytes]]) -> bytes:
    """Return the frame with the 802.1Q tag that the kernel has removed."""
    for level, kind, data in ancillary:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
            status, _, _, _, _, tci, protocol = _AUXDATA.unpack(data)
            if status & _TP_STATUS_VLAN_VALID:
                return frame[: 2 * _MAC] + struct.pack("!HH", protocol, tci) + frame[2 * _MAC :]
    return frame


def frame(kind: int, length: int, *, to: bytes = BROADCAST, number: int = 0) -> bytes:
    """Return a frame from SOURCE_MAC of ``length`` bytes, Ethernet header included, with this EtherType."""
    head = to + SOURCE_MAC + struct.pack("!HI", kind, number)
    return head + os.urandom(length - len(head))


def number_of(frame: bytes) -> int:
    """Return the number that a frame was made with."""
    return int.from_bytes(frame[14:18])


_PCAP_HEADER: Final = 24
_PCAP_RECORD: Final = struct.Struct("=IIII")  # seconds, microseconds, bytes captured, bytes on the wire


class Capture:
    """tcpdump on a device, from ``with`` to its end."""

    def __init__(self, place: Namespace, device: str, expression: str) -> None:
        command = ("tcpdump", "-i", device, "-s", "96", "-B", "65536", "--immediate-mode", "-U", "-w", "-")
        self._tcpdump = place.start(*command, "-Z", "root", *expression.split())

    def __enter__(self) -> Self:
        self._tcpdump.wait_for_output("listening on")
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._tcpdump.kill()

    def lengths(self, octets: int) -> list[int]:
        """Return the sizes of the frames seen, once they total this many bytes."""
        until(lambda: sum(self._lengths()) >= octets, lambda: f"{sum(self._lengths())} of {octets} bytes")
        return self._lengths()

    def _lengths(self) -> list[int]:
        data, position, found = self._tcpdump.stdout, _PCAP_HEADER, []
        while position + _PCAP_RECORD.size <= len(data):
            _, _, kept, length = _PCAP_RECORD.unpack_from(data, position)
            position += _PCAP_RECORD.size + kept
            found.append(length)
        return found


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
