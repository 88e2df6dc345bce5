"""A stand-in for systemd's side of the service protocol of sd_notify(3) and sd_listen_fds(3).

It keeps a unit's state, status line, watchdog signals and stored descriptors by systemd's rules, and starts a
process with them as systemd does.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

from tests.waiting import DEADLINE_S

_LARGEST: Final = 4096
"""NOTIFY_BUFFER_MAX of systemd: a longer message is dropped."""
_FDS_MAX: Final = 768
"""NOTIFY_FD_MAX of systemd."""


@dataclass(slots=True)
class Unit:
    """The state of a service in its manager."""

    state: str = "start"
    """start, running, reload or stop."""
    status: str = ""
    reload_began_us: int = 0
    signs_of_life: int = 0
    stored: list[tuple[str, int]] = field(default_factory=list)
    """Names and copies of the descriptors, in the order of arrival."""
    polled: set[str] = field(default_factory=set)
    """Names whose descriptors the manager polls and drops when they hang up."""


class ServiceManager:
    """A manager that listens at an address for the length of a ``with`` block."""

    def __init__(self, address: str, *, store_max: int = 512) -> None:
        """Bind ``address``, as in $NOTIFY_SOCKET. ``store_max`` is FileDescriptorStoreMax=."""
        self.address = address
        self.unit = Unit()
        self.messages: list[dict[str, str]] = []
        """Every message received, in order."""
        self._store_max = store_max
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        for _, fd in self.unit.stored:
            os.close(fd)

    def receive(self) -> dict[str, str]:
        """Wait for one message and apply it."""
        self._socket.settimeout(DEADLINE_S)
        return self._receive()

    def receive_all(self) -> list[dict[str, str]]:
        """Receive and apply the messages that have arrived."""
        self._socket.settimeout(0)
        received = []
        with contextlib.suppress(BlockingIOError):
            while True:
                received.append(self._receive())
        return received

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a process with the stored descriptors, from number 3 on."""
        fds = [fd for _, fd in self.unit.stored]
        shell = 'export LISTEN_PID=$$; shift; exec "$@"' + "".join(
            f" {number}<&{100 + number}" for number in range(3, 3 + len(fds))
        )
        with contextlib.ExitStack() as passed:
            for number, fd in enumerate(fds, 3):  # out of the way of the final numbers
                os.dup2(fd, 100 + number)
                passed.callback(os.close, 100 + number)
            return subprocess.Popen(
                ["bash", "-c", shell, "bash", "-", *command],
                env={
                    **environment,
                    "NOTIFY_SOCKET": self.address,
                    "LISTEN_FDS": str(len(fds)),
                    "LISTEN_FDNAMES": ":".join(name for name, _ in self.unit.stored),
                },
                pass_fds=range(103, 103 + len(fds)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
            )

    def _receive(self) -> dict[str, str]:
        data, ancillary, flags, _ = self._socket.recvmsg(
            _LARGEST + 1, socket.CMSG_SPACE(_FDS_MAX * array.array("i").itemsize)
        )
        fds = list(_descriptors(ancillary))
        if len(data) > _LARGEST or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise AssertionError(f"systemd would drop this message: {data[:80]!r}...")
        pairs = [line.partition("=") for line in data.decode().split("\n") if line]
        if not all(separator for _, separator, _ in pairs):
            raise AssertionError(f"not assignments: {data!r}")
        message = {name: value for name, _, value in pairs}
        self.messages.append(message)
        self._apply(message, fds)
        return message

    def _apply(self, message: Mapping[str, str], fds: list[int]) -> None:
        unit = self.unit
        if "STATUS" in message:
            unit.status = message["STATUS"]
        if message.get("RELOADING") == "1":
            unit.state, unit.reload_began_us = "reload", int(message["MONOTONIC_USEC"])
        if message.get("READY") == "1":
            unit.state = "running"
        if message.get("STOPPING") == "1":
            unit.state = "stop"
        if message.get("WATCHDOG") == "1":
            unit.signs_of_life += 1
        self._apply_store(message, fds)

    def _apply_store(self, message: Mapping[str, str], fds: list[int]) -> None:
        unit, name = self.unit, message.get("FDNAME", "stored")
        if message.get("FDSTOREREMOVE") == "1":
            for stored in [each for each in unit.stored if each[0] == name]:
                unit.stored.remove(stored)
                os.close(stored[1])
        wanted = message.get("FDSTORE") == "1"
        if wanted and message.get("FDPOLL") != "0":
            unit.polled.add(name)
        for fd in fds:
            if wanted and len(unit.stored) < self._store_max and not self._is_stored(fd):
                unit.stored.append((name, fd))
            else:
                os.close(fd)

    def _is_stored(self, fd: int) -> bool:
        return any(_same_file(fd, stored) for _, stored in self.unit.stored)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> Iterator[int]:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers: array.array[Any] = array.array("i")
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
            yield from numbers


def _same_file(one: int, other: int) -> bool:
    """Compare as systemd's same_fd() without kcmp(2): two descriptors of one device differ."""
    status = os.fstat(one)
    return os.path.samestat(status, os.fstat(other)) and not stat.S_ISCHR(status.st_mode)
