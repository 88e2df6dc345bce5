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
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from epaird.dataplane.process import SPARE, WORKER
from epaird.kernel import namespace
from tests.scenarios.page import Page
from tests.scenarios.places import Namespace, Running
from tests.waiting import DEADLINE_S, until

EPAIRD: Final = str(Path(sys.executable).with_name("epaird"))

LISTEN: Final = "127.0.0.1:9862"
NAMESPACES: Final = '[namespaces]\ncreate = ["$red", "$blue"]\n'

_numbers = itertools.count()


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

        A worker's heartbeat wakes it a few times a second, the question for its page the control plane."""
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
