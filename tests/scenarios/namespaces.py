"""Network namespaces, their devices, and the commands that run in them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from epaird.kernel import abi, namespace
from epaird.kernel.netlink import LINK, RouteSocket, attribute
from epaird.kernel.printable import printable
from tests.kernel.named import within
from tests.waiting import DEADLINE_S, until


@dataclass(frozen=True, slots=True)
class Link:
    """A device as ``ip -s link`` shows it."""

    index: int
    name: str
    """Its name in the printable form."""
    mtu: int
    mac: str
    up: bool
    tx_packets: int
    tx_dropped: int
    rx_packets: int
    rx_dropped: int


class Namespace:
    """A network namespace by the name that ``ip netns`` shows; it need not exist yet."""

    def __init__(self, name: str, stack: contextlib.ExitStack) -> None:
        """Sockets and processes created in the namespace end with ``stack``."""
        self.name = name
        self._stack = stack

    def __str__(self) -> str:
        return self.name

    @property
    def exists(self) -> bool:
        return Path("/run/netns", self.name).exists()

    def create(self) -> Self:
        """Create the namespace, with ``lo`` up."""
        namespace.create(self.name)
        return self

    def remove(self) -> None:
        """Remove the namespace's name, as a user does."""
        subprocess.run(["ip", "netns", "del", self.name], check=True)

    def inside(self) -> contextlib.AbstractContextManager[None]:
        """Enter the namespace for the block; what is started and opened there stays there."""
        return within(self.name)

    def run(self, *command: str) -> str:
        """Return the output of a command, which must succeed."""
        with self.inside():
            done = subprocess.run(
                command,
                capture_output=True,
                encoding="utf-8",
                errors="surrogateescape",
                timeout=60,
                check=False,
            )
        if done.returncode != 0:
            raise AssertionError(f"{self} {' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def write(self, file: str, text: str) -> None:
        """Write to a file of /proc/sys/net, of which each namespace has its own."""
        with self.inside():
            Path(file).write_text(text)

    def disable_ipv6(self) -> Self:
        """Have the kernel send no frames of its own on any interface of the namespace."""
        for which in ("all", "default"):
            self.write(f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6", "1")
        return self

    def ip(self, arguments: str) -> str:
        """Run ``ip`` with these arguments."""
        return self.run("ip", *arguments.split())

    def tc(self, arguments: str) -> str:
        """Run ``tc`` with these arguments."""
        return self.run("tc", *arguments.split())

    def start(self, *command: str) -> Process:
        """Start a command, which ends with the test at the latest."""
        with self.inside():
            running = Process(command)
        self._stack.callback(running.kill)
        return running

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Open a socket in the namespace with a timeout of DEADLINE_S."""
        with self.inside():
            made = socket.socket(family, kind, protocol)
        made.settimeout(DEADLINE_S)
        return self._stack.enter_context(made)

    def links(self, kind: str | None = None) -> dict[str, Link]:
        """Return the namespace's devices by name, all or those of one kind (``tun``)."""
        command = ["ip", "-s", "-j", "link", "show", *(("type", kind) if kind else ())]
        # ip writes control characters of a name as they are.
        found = json.loads(self.run(*command) or "[]", strict=False)
        return {link.name: link for link in map(_link, filter(None, found))}

    def rename(self, index: int, name: bytes) -> None:
        """Rename a device, as the owner of the namespace does."""
        renamed = LINK.pack(0, 0, index, 0, 0) + attribute(abi.IFLA_IFNAME, name + b"\0")
        with self.inside(), contextlib.closing(RouteSocket()) as route:
            (number,) = route.execute([(abi.RTM_SETLINK, 0, renamed)])
        if number:
            raise AssertionError(f"{self}: device {index} is not renamed to {name!r}: {os.strerror(number)}")

    def wait_for_carrier(self, device: str) -> None:
        """Wait until the kernel transmits on a device.

        It drops what is sent before: the queue in front of the ring appears a moment after the carrier.
        """
        until(lambda: "state UP" in self.ip(f"link show {device}"), lambda: self.ip("link"))

    def wait_for_dad(self, device: str) -> None:
        """Wait until duplicate address detection has ended on a device, so that its IPv6 addresses can be
        used."""
        show = ("ip", "-j", "-6", "addr", "show", "dev", device, "tentative")
        until(lambda: not any(each for each in json.loads(self.run(*show) or "[]")), lambda: self.run(*show))


class Process:
    """A command that runs in the background."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self.start(command)

    def start(self, command: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401
        """Start the command; ``options`` are Popen's."""
        self.command = command
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            self._out, self._err = (os.fdopen(os.dup(each.fileno()), "rb") for each in (out, err))
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True, **options
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def stdout(self) -> bytes:
        """Everything written to stdout so far."""
        return os.pread(self._out.fileno(), 1 << 30, 0)

    @property
    def stderr(self) -> str:
        """Everything written to stderr so far."""
        return os.pread(self._err.fileno(), 1 << 30, 0).decode()

    def wait_for_output(self, words: str) -> None:
        """Wait until these words appear on stderr or stdout."""

        def found() -> bool:
            return words in self.stderr or words.encode() in self.stdout

        until(lambda: found() or not self.running, self.__repr__)
        if not found():
            raise AssertionError(f"no output {words!r}: {self!r}")

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def ctrl_c(self) -> None:
        """Send SIGINT to every process of the process group, as a terminal does."""
        os.killpg(self.pid, signal.SIGINT)

    def wait_exit(self) -> int:
        """Wait for the end and return the exit status, negative for a signal."""
        try:
            return self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"does not end: {self!r}") from None

    def kill(self) -> None:
        """Kill the process if it still runs."""
        if self.running:
            self.process.kill()
            self.process.wait()
        self._out.close()
        self._err.close()

    def __repr__(self) -> str:
        status = self.process.poll()
        return f"<{' '.join(self.command)}, exit status {status}>\n{self.stderr}"


def _link(found: dict[str, Any]) -> Link:
    received, sent = found["stats64"]["rx"], found["stats64"]["tx"]
    return Link(
        index=found["ifindex"],
        name=printable(os.fsencode(found["ifname"])),
        mtu=found["mtu"],
        mac=found.get("address", ""),
        up="UP" in found["flags"],
        tx_packets=sent["packets"],
        tx_dropped=sent["dropped"],
        rx_packets=received["packets"],
        rx_dropped=received["dropped"],
    )
