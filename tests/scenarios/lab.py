"""A laboratory for scenarios: a home for the daemon, namespaces, devices and clients of one test's own.

The daemon under test is the real one, started as a user starts it.  Its home is a network namespace of
the test's own rather than the machine's: interfaces can be called what the manual calls them, the
metrics have their usual port, and what the daemon leaves behind is easy to see.  In configurations and
commands ``$red`` stands for a namespace that no other test has.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from epaird.dataplane.process import SPARE, WORKER
from epaird.kernel import namespace
from tests.scenarios.page import Page

DEADLINE_S: Final = 20.0
"""Far more than anything here takes; what is not so by then will not be."""

EPAIRD: Final = str(Path(sys.executable).with_name("epaird"))

LISTEN: Final = "127.0.0.1:9862"
NAMESPACES: Final = '[namespaces]\ncreate = ["$red", "$blue"]\n'

T = TypeVar("T")
_numbers = itertools.count()


def until(condition: Callable[[], T], otherwise: Callable[[], object] = lambda: "") -> T:
    """Wait for a condition and return its first true value; fail with what ``otherwise`` says."""
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited for {DEADLINE_S:.0f} s in vain: {otherwise()}")
        time.sleep(0.01)
    return value


def pair(
    unit: int = 0,
    *,
    a: Mapping[str, object] | None = None,
    b: Mapping[str, object] | None = None,
    ipv6: bool = True,
    **settings: object,
) -> str:
    """The configuration of a pair that joins red and blue by their eth0 (of unit 1: eth1, and so on).

    ``a``, ``b`` and ``settings`` are what is to be otherwise; a key that is None is left out."""
    tables = {f"epair.epair{unit}": settings}
    for number, (half, netns, changes) in enumerate((("a", "$red", a), ("b", "$blue", b)), 1):
        tables[f"epair.epair{unit}.{half}"] = {
            "netns": netns,
            "name": f"eth{unit}",
            "addresses": [f"10.0.{unit}.{number}/24"] + [f"fd0{unit}::{number}/64"] * ipv6,
            **(changes or {}),
        }
    return "".join(f"[{name}]\n{_lines(table)}" for name, table in tables.items())


def _lines(table: Mapping[str, object]) -> str:
    return "".join(f"{key} = {_toml(value)}\n" for key, value in table.items() if value is not None)


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


CABLE: Final = NAMESPACES + pair()
"""What the manual begins with: red and blue, made by the daemon and joined by epair0."""


@dataclass(frozen=True, slots=True)
class Link:
    """What ``ip -s link`` says of a device."""

    index: int
    name: str
    mtu: int
    mac: str
    up: bool
    tx_packets: int
    tx_dropped: int
    rx_packets: int
    rx_dropped: int


class Namespace:
    """A network namespace, by the name that ``ip netns`` shows; it need not exist yet."""

    def __init__(self, name: str, stack: contextlib.ExitStack) -> None:
        """Sockets and processes made in it end with ``stack``."""
        self.name = name
        self._stack = stack

    def __str__(self) -> str:
        return self.name

    @property
    def exists(self) -> bool:
        return Path("/run/netns", self.name).exists()

    def create(self) -> Self:
        """Make it, ``lo`` up."""
        namespace.create(self.name)
        return self

    def remove(self) -> None:
        """Take its name away, as a user does."""
        subprocess.run(["ip", "netns", "del", self.name], check=True)

    def inside(self) -> contextlib.AbstractContextManager[None]:
        """Be in it for the block: what is started and opened there stays there."""
        return namespace.inside(self.name)

    def run(self, *command: str) -> str:
        """What a command that succeeds says."""
        with self.inside():
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise AssertionError(f"{self} {' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def write(self, file: str, text: str) -> None:
        """Write to a file of /proc/sys/net, of which each namespace has its own."""
        with self.inside():
            Path(file).write_text(text)

    def ip(self, arguments: str) -> str:
        """Run ``ip`` with these arguments."""
        return self.run("ip", *arguments.split())

    def tc(self, arguments: str) -> str:
        """Run ``tc`` with these arguments."""
        return self.run("tc", *arguments.split())

    def start(self, *command: str) -> Running:
        """Start a command that ends with the test at the latest."""
        with self.inside():
            running = Running(command)
        self._stack.callback(running.kill)
        return running

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket in it, which waits at most DEADLINE_S."""
        with self.inside():
            made = socket.socket(family, kind, protocol)
        made.settimeout(DEADLINE_S)
        return self._stack.enter_context(made)

    def links(self, kind: str | None = None) -> dict[str, Link]:
        """Its devices by name, all or those of a kind (``tun``)."""
        command = ["ip", "-s", "-j", "link", "show", *(("type", kind) if kind else ())]
        found = json.loads(self.run(*command) or "[]")
        return {each["ifname"]: _link(each) for each in found if each}

    def settled(self, device: str) -> None:
        """Wait until a device's IPv6 addresses are known to be nobody else's: then they can be used."""
        show = ("ip", "-j", "-6", "addr", "show", "dev", device, "tentative")
        until(lambda: not any(each for each in json.loads(self.run(*show) or "[]")), lambda: self.run(*show))


class Running:
    """A command that runs beside the test."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self.start(command)

    def start(self, command: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401
        """Start it; ``options`` are Popen's."""
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
        """All it has written to stdout so far."""
        return os.pread(self._out.fileno(), 1 << 30, 0)

    @property
    def stderr(self) -> str:
        """All it has written to stderr so far."""
        return os.pread(self._err.fileno(), 1 << 30, 0).decode()

    def says(self, words: str) -> None:
        """Wait until it has said this on stderr or stdout."""

        def said() -> bool:
            return words in self.stderr or words.encode() in self.stdout

        until(lambda: said() or not self.running, self.__repr__)
        if not said():
            raise AssertionError(f"never said {words!r}: {self!r}")

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def ctrl_c(self) -> None:
        """What a terminal does: SIGINT to every process of the foreground process group."""
        os.killpg(self.pid, signal.SIGINT)

    def ended(self) -> int:
        """Wait for its end: its exit status, negative for a signal."""
        try:
            return self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"does not end: {self!r}") from None

    def kill(self) -> None:
        """End it now, if it has not ended."""
        if self.running:
            self.process.kill()
            self.process.wait()
        self._out.close()
        self._err.close()

    def __repr__(self) -> str:
        status = self.process.poll()
        return f"<{' '.join(self.command)}, exit status {status}>\n{self.stderr}"


class Daemon(Running):
    """``epaird run``, in its home."""

    def __init__(self, lab: Lab, file: Path, wrapper: tuple[str, ...] = ()) -> None:
        self.lab = lab
        self.file = file
        with lab.home.inside():
            super().__init__((*wrapper, EPAIRD, "run", "--config", str(file)))

    @property
    def log(self) -> list[str]:
        """The lines it has said so far."""
        return self.stderr.splitlines()

    def said(self, words: str) -> list[str]:
        """The lines with these words."""
        return [line for line in self.log if words in line]

    def says_times(self, words: str, count: int) -> None:
        """Wait until so many lines have these words."""
        until(lambda: len(self.said(words)) >= count, self.__repr__)

    def greeted(self) -> Self:
        """Wait until it has made everything and says so."""
        self.says("metrics: http://")
        return self

    def get(self, path: str) -> tuple[int, bytes]:
        """The status and the body of a page of the daemon's."""
        url = re.search(r"metrics: http://(\S+):(\d+)/", self.stderr)
        if url is None:
            raise AssertionError(f"has no page: {self!r}")
        with self.lab.home.inside():
            connection = socket.create_connection((url[1], int(url[2])), timeout=DEADLINE_S)
        with connection, connection.makefile("rb") as answer:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: epaird\r\nConnection: close\r\n\r\n".encode())
            head, _, body = answer.read().partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def metrics(self) -> Page:
        """The metrics page now."""
        status, body = self.get("/metrics")
        if status != 200:
            raise AssertionError(f"/metrics: {status}\n{body.decode()}\n{self!r}")
        return Page(body)

    def healthz(self) -> int:
        """The status of /healthz."""
        return self.get("/healthz")[0]

    def workers(self) -> list[int]:
        """The pids of the worker processes; the one that is kept ready is none yet."""
        return [pid for pid in self.lab.processes("epaird.dataplane") if name_of(pid).startswith(WORKER)]

    def spares(self) -> list[int]:
        """The pids of the processes that are kept ready: one, but for a moment after it was needed."""
        return [pid for pid in self.lab.processes("epaird.dataplane") if name_of(pid) == SPARE]

    def calm(self) -> None:
        """See that nothing is in a busy loop, which never sleeps; to be asked when there is no traffic.

        A worker's heartbeat wakes it four times a second, the question for its page the control plane."""
        pids = (self.pid, *self.workers())
        slept = {pid: _voluntary_switches(pid) for pid in pids}
        before, started = self.metrics(), time.monotonic()
        until(
            lambda: self.metrics() and all(_voluntary_switches(pid) >= slept[pid] + 5 for pid in pids),
            lambda: f"a process never sleeps: {slept} {self!r}",
        )
        after, elapsed = self.metrics(), time.monotonic() - started
        for number in range(len(self.workers())):
            used = after.worker(str(number)).cpu_seconds - before.worker(str(number)).cpu_seconds
            if used > elapsed / 2:
                raise AssertionError(f"worker {number} has used {used:.2f} s of {elapsed:.2f} s")

    def worker(self) -> int:
        """The pid of its only worker."""
        (pid,) = self.workers()
        return pid

    def at_rest(self) -> Page:
        """Wait until every frame has met its one fate, to the frame, and nothing is in flight; the page then.

        IPv6 sends something of its own now and then, so that this takes a few looks."""
        page = self.metrics()

        def balanced() -> bool:
            nonlocal page
            page = self.metrics()
            return not self._unaccounted(page)

        until(balanced, lambda: "\n".join([*self._unaccounted(page), self.stderr]))
        return page

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Have it end, and see that it ended well and left nothing behind."""
        if self.running:
            self.signal(number)
        self.left_nothing(0)

    def left_nothing(self, status: int) -> None:
        """See that it ends with this status and leaves nothing behind."""
        if self.ended() != status:
            raise AssertionError(f"exit status is not {status}: {self!r}")
        if remains := self.lab.remains():
            raise AssertionError(f"left behind: {remains}: {self!r}")

    def _unaccounted(self, page: Page) -> list[str]:
        """What of the ledger does not hold, with its numbers."""
        interfaces = {device: page.interface(device) for device in page.devices()}
        places = {each.netns for each in interfaces.values()}
        kernel = {netns: self.lab.place(netns).links("tun") for netns in places}
        wrong = []
        for sender in interfaces.values():
            receiver = interfaces.get(sender.pair + ("b" if sender.half == "a" else "a"))
            link = kernel[sender.netns].get(sender.name)
            if link is None or receiver is None:
                wrong.append(f"{sender.device} as {sender.name} in {sender.netns}: it or its peer is gone")
                continue
            errors, lost = sum(sender.oerrors.values()), sum(receiver.ierrors.values())
            equalities = {
                "kernel tx_packets = opackets + oerrors": (link.tx_packets, sender.opackets + errors),
                "opackets = peer's ipackets + ierrors": (sender.opackets, receiver.ipackets + lost),
                "kernel tx_dropped = oqdrops": (link.tx_dropped, sender.oqdrops),
                "refs = 1": (sender.refs, 1),
            }
            wrong += [
                f"{sender.device}: {rule}: {left} != {right}"
                for rule, (left, right) in equalities.items()
                if left != right
            ]
        return wrong


@dataclass(slots=True)
class Lab:
    """What one test has.  Leaving its context ends and removes all of it, daemons first."""

    _prefix: str = field(default_factory=lambda: f"ept{os.getpid()}x{next(_numbers)}")
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _daemons: list[Daemon] = field(default_factory=list)
    directory: Path = field(init=False)
    """The test's own; the daemons' control sockets are in it."""
    home: Namespace = field(init=False)
    """Where daemons are started."""

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix=self._prefix))
        self._stack.callback(shutil.rmtree, self.directory)
        self._stack.callback(self._remove_namespaces)
        self.home = self["home"].create()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            for daemon in self._daemons:
                daemon.kill()
            for pid in self.processes("epaird"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def __getitem__(self, name: str) -> Namespace:
        """The namespace that configurations call ``$name``."""
        return Namespace(self._prefix + name, self._stack)

    def by_name(self, name: str) -> Namespace:
        """The namespace of this full name."""
        return Namespace(name, self._stack)

    def place(self, netns: str) -> Namespace:
        """The namespace that the daemon calls this: empty for its own."""
        return self.by_name(netns) if netns else self.home

    def namespace(self, name: str, *, ipv6: bool = True) -> Namespace:
        """Make the namespace that configurations call ``$name``; without IPv6 nothing is sent unasked."""
        made = self[name].create()
        if not ipv6:
            for which in ("all", "default"):
                made.write(f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6", "1")
        return made

    def configuration(self, text: str, *, listen: str = LISTEN, **daemon: object) -> Path:
        """A file of these pairs; ``daemon`` is what stands in the table of this name."""
        settings = {"control_socket": str(self.directory / "run" / "control.sock"), **daemon}
        file = self.directory / f"{next(_numbers)}.toml"
        file.write_text(f'[daemon]\n{_lines(settings)}[metrics]\nlisten = "{listen}"\n{self.expanded(text)}')
        return file

    def expanded(self, text: str) -> str:
        """With each ``$name`` a namespace's full name."""
        return string.Template(text).substitute(_Names(self._prefix))

    def launch(
        self, text: str, *, wrapper: tuple[str, ...] = (), listen: str = LISTEN, **daemon: object
    ) -> Daemon:
        """Start a daemon, and wait for nothing."""
        return self.launch_file(self.configuration(text, listen=listen, **daemon), wrapper)

    def launch_file(self, file: Path, wrapper: tuple[str, ...] = ()) -> Daemon:
        """Start a daemon with this configuration, behind a command that starts it, and wait for nothing."""
        started = Daemon(self, file, wrapper)
        self._daemons.append(started)
        return started

    def daemon(self, text: str, **daemon: object) -> Daemon:
        """Start a daemon, and wait until it has made everything."""
        return self.launch(text, wrapper=(), listen=LISTEN, **daemon).greeted()

    def again(self, daemon: Daemon) -> Daemon:
        """Start another daemon with the same configuration, and wait for nothing."""
        return self.launch_file(daemon.file)

    def finish(self) -> None:
        """Stop the daemons that run, and see that nothing is left of any."""
        for daemon in self._daemons:
            if daemon.running:
                daemon.stop()

    def story(self) -> str:
        """All that its daemons have said."""
        return "".join(f"{daemon!r}\n" for daemon in self._daemons)

    def processes(self, words: str) -> list[int]:
        """The processes at home whose command line has these words, by age."""
        identity = namespace.identity(self.home.name)
        found = []
        for directory in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                status = (directory / "ns" / "net").stat()
                command = (directory / "cmdline").read_bytes().replace(b"\0", b" ")
                if (status.st_dev, status.st_ino) == identity and words.encode() in command:
                    found.append(int(directory.name))
        return sorted(found)

    def remains(self) -> list[str]:
        """What of daemons there still is."""
        left = [f"process {pid}" for pid in self.processes("epaird")]
        for place in self._namespaces():
            left += [f"device {device} in {place}" for device in place.links("tun")]
        for daemon in self._daemons:
            listed = re.search(r"^create = (\[.*\])$", daemon.file.read_text(), re.MULTILINE)
            created = json.loads(listed[1]) if listed else []
            left += [f"namespace {name}" for name in created if self.by_name(name).exists]
        left += [f"file {file}" for file in self.directory.glob("run/*")]
        return sorted(set(left))

    def _namespaces(self) -> Iterator[Namespace]:
        for path in Path("/run/netns").glob(f"{self._prefix}*"):
            yield self.by_name(path.name)

    def _remove_namespaces(self) -> None:
        for each in tuple(self._namespaces()):
            namespace.remove(each.name)


def _voluntary_switches(pid: int) -> int:
    """How often a process has gone to sleep."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)$", status, re.MULTILINE)
    return int(found[1]) if found else 0


def name_of(pid: int) -> str:
    """What ps -o comm says of a process; empty when there is none."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    return ""


class _Names(dict[str, str]):
    """Template values: each name with the prefix."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def __missing__(self, name: str) -> str:
        return self._prefix + name


def _link(found: dict[str, Any]) -> Link:
    received, sent = found["stats64"]["rx"], found["stats64"]["tx"]
    return Link(
        index=found["ifindex"],
        name=found["ifname"],
        mtu=found["mtu"],
        mac=found.get("address", ""),
        up="UP" in found["flags"],
        tx_packets=sent["packets"],
        tx_dropped=sent["dropped"],
        rx_packets=received["packets"],
        rx_dropped=received["dropped"],
    )
