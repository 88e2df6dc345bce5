"""A laboratory for scenarios: namespaces, devices, daemons and clients that belong to one test.

The daemon under test is the real one, started as a user starts it. Its home is a network namespace of the
test rather than the machine's own: interfaces can have the names of the manual, the metrics have their usual
port, and leftovers are easy to see. In configurations and commands ``$red`` stands for a namespace that only
this test has.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import resource
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
from tests.scenarios.namespaces import Namespace, Process
from tests.scenarios.page import Page
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
    """Return the configuration of a pair that connects red and blue by their eth0 (unit 1: eth1, and so on).

    ``a``, ``b`` and ``settings`` override the defaults; a key whose value is None is left out.
    """
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
"""The manual's first example: red and blue, created by the daemon and connected by epair0."""


class Daemon(Process):
    """``epaird run`` in its home namespace."""

    def __init__(self, lab: Lab, file: Path, wrapper: tuple[str, ...] = ()) -> None:
        self.lab = lab
        self.file = file
        with lab.home.inside(), lab.marking():
            super().__init__((*wrapper, EPAIRD, "run", "--config", str(file)))

    @property
    def log(self) -> list[str]:
        """The log lines so far."""
        return self.stderr.splitlines()

    def wait_for_log(self, words: str) -> None:
        """Wait until the log contains these words."""
        self.wait_for_output(words)

    def log_lines_with(self, words: str) -> list[str]:
        """Return the log lines with these words."""
        return [line for line in self.log if words in line]

    def wait_for_log_lines(self, words: str, count: int) -> None:
        """Wait until at least ``count`` log lines have these words."""
        until(lambda: len(self.log_lines_with(words)) >= count, self.__repr__)

    def wait_ready(self) -> Self:
        """Wait until the daemon has created everything and announces its metrics page."""
        self.wait_for_output("metrics: http://")
        return self

    def get(self, path: str) -> tuple[int, bytes]:
        """Return the status and body of one of the daemon's pages."""
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
        """Return the present metrics page."""
        status, body = self.get("/metrics")
        if status != 200:
            raise AssertionError(f"/metrics: {status}\n{body.decode()}\n{self!r}")
        return Page(body)

    def healthz(self) -> int:
        """Return the status of /healthz."""
        return self.get("/healthz")[0]

    def workers(self) -> list[int]:
        """Return the pids of the worker processes, without the spare."""
        return [pid for pid in self.lab.processes("epaird.dataplane") if process_name(pid).startswith(WORKER)]

    def spares(self) -> list[int]:
        """Return the pids of the spare processes: one, except for a moment after it was used."""
        return [pid for pid in self.lab.processes("epaird.dataplane") if process_name(pid) == SPARE]

    def assert_sleeps(self) -> None:
        """Check that no process is in a busy loop, while there is no traffic.

        The heartbeat wakes a worker a few times a second; the requests for the metrics page wake the control
        plane.
        """
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
        """Return the pid of the only worker."""
        (pid,) = self.workers()
        return pid

    def at_rest(self) -> Page:
        """Wait until the books balance to the frame and nothing is in flight; return that metrics page.

        IPv6 sends frames of its own now and then, so this can take several attempts.
        """
        page = self.metrics()

        def balanced() -> bool:
            nonlocal page
            page = self.metrics()
            return not self._unaccounted(page)

        until(balanced, lambda: "\n".join([*self._unaccounted(page), self.stderr]))
        return page

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop the daemon and check that it exits cleanly and leaves nothing behind."""
        if self.running:
            self.signal(number)
        self.assert_clean_exit(0)

    def crash(self) -> None:
        """Kill the control plane and wait for its end."""
        self.signal(signal.SIGKILL)
        self.wait_exit()

    def edit_file(self, old: str, new: str) -> None:
        """Replace some text of the configuration file."""
        self.file.write_text(self.file.read_text().replace(old, new))

    def assert_clean_exit(self, status: int) -> None:
        """Check that the daemon exits with this status and leaves nothing behind."""
        if self.wait_exit() != status:
            raise AssertionError(f"exit status is not {status}: {self!r}")
        if left := self.lab.leftovers():
            raise AssertionError(f"left behind: {left}: {self!r}")

    def _unaccounted(self, page: Page) -> list[str]:
        """Return the equations of the books that do not hold, with their numbers."""
        interfaces = {device: page.interface(device) for device in page.devices()}
        namespaces = {each.netns for each in interfaces.values()}
        kernel = {netns: self.lab.namespace_of(netns).links("tun") for netns in namespaces}
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
                "opackets + added segments + cut + doubled = peer's ipackets + ierrors + impaired + held": (
                    sender.opackets + receiver.added_segments + page.line_balance(sender.device),
                    receiver.ipackets + lost,
                ),
                "impaired segments = those delivered, refused and dropped": (
                    0 if page.held(sender.device) else page.segment_balance(sender.device),
                    0,
                ),
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
    """The namespaces, files and daemons of one test; leaving the context removes them, daemons first."""

    _prefix: str = field(default_factory=lambda: f"ept{os.getpid()}x{next(_numbers)}")
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _daemons: list[Daemon] = field(default_factory=list)
    directory: Path = field(init=False)
    """The test's directory, which also holds the daemons' control sockets."""
    home: Namespace = field(init=False)
    """The namespace in which daemons are started."""

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
        """Return the namespace that configurations call ``$name``."""
        return Namespace(self._prefix + name, self._stack)

    def by_name(self, name: str) -> Namespace:
        """Return the namespace with this full name."""
        return Namespace(name, self._stack)

    def namespace_of(self, netns: str) -> Namespace:
        """Return the namespace that the daemon reports by this name; an empty name is its own."""
        return self.by_name(netns) if netns else self.home

    def namespace(self, name: str, *, ipv6: bool = True) -> Namespace:
        """Create the namespace that configurations call ``$name``; without IPv6 the kernel sends nothing of
        its own."""
        made = self[name].create()
        return made if ipv6 else made.disable_ipv6()

    def configuration(self, text: str, *, listen: str = LISTEN, **daemon: object) -> Path:
        """Write a configuration file; ``daemon`` holds the settings of its [daemon] table."""
        settings = {"control_socket": str(self.directory / "run" / "control.sock"), **daemon}
        file = self.directory / f"{next(_numbers)}.toml"
        file.write_text(f'[daemon]\n{_lines(settings)}[metrics]\nlisten = "{listen}"\n{self.expand(text)}')
        return file

    def expand(self, text: str) -> str:
        """Replace each ``$name`` by the full name of its namespace."""
        return string.Template(text).substitute(_Names(self._prefix))

    def launch(
        self, text: str, *, wrapper: tuple[str, ...] = (), listen: str = LISTEN, **daemon: object
    ) -> Daemon:
        """Start a daemon without waiting for it."""
        return self.launch_file(self.configuration(text, listen=listen, **daemon), wrapper)

    def launch_file(self, file: Path, wrapper: tuple[str, ...] = ()) -> Daemon:
        """Start a daemon with this file, optionally behind a wrapper command, without waiting for it."""
        started = Daemon(self, file, wrapper)
        self._daemons.append(started)
        return started

    def daemon(self, text: str, **daemon: object) -> Daemon:
        """Start a daemon and wait until it is ready."""
        return self.launch(text, wrapper=(), listen=LISTEN, **daemon).wait_ready()

    def restart(self, daemon: Daemon) -> Daemon:
        """Start another daemon with the same configuration, without waiting for it."""
        return self.launch_file(daemon.file)

    def finish(self) -> None:
        """Stop the running daemons and check that none leaves anything behind."""
        for daemon in self._daemons:
            if daemon.running:
                daemon.stop()

    def logs(self) -> str:
        """Return the logs of all daemons."""
        return "".join(f"{daemon!r}\n" for daemon in self._daemons)

    def processes(self, words: str) -> list[int]:
        """Return the pids whose command line has these words, in ascending order: of this laboratory's
        daemons and all that they have started, and of others at home."""
        identity = namespace.identity(self.home.name)
        found = []
        for directory in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (directory / "cmdline").read_bytes().replace(b"\0", b" ")
                if words.encode() not in command:
                    continue
                status = (directory / "ns" / "net").stat()
                if (status.st_dev, status.st_ino) == identity or self._marked(directory):
                    found.append(int(directory.name))
        return sorted(found)

    @contextlib.contextmanager
    def marking(self) -> Iterator[None]:
        """Mark the processes that are started, and all that these start, as of this laboratory.

        Workers have namespaces of their own and no environment. They keep this limit, which concerns
        real-time tasks only."""
        before = resource.getrlimit(resource.RLIMIT_RTTIME)
        resource.setrlimit(resource.RLIMIT_RTTIME, (self._mark, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_RTTIME, before)

    @property
    def _mark(self) -> int:
        return namespace.identity(self.home.name).inode

    def _marked(self, process: Path) -> bool:
        limit = re.search("^Max realtime timeout +([^ ]+)", (process / "limits").read_text(), re.MULTILINE)
        return limit is not None and limit[1] == str(self._mark)

    def leftovers(self) -> list[str]:
        """Return everything that the daemons have left behind."""
        left = [f"process {pid}" for pid in self.processes("epaird")]
        for netns in self._namespaces():
            left += [f"device {device} in {netns}" for device in netns.links("tun")]
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
    """Return how often a process has gone to sleep."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)$", status, re.MULTILINE)
    return int(found[1]) if found else 0


def process_name(pid: int) -> str:
    """Return the name of a process as ``ps -o comm`` prints it; empty when there is no such process."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    return ""


class _Names(dict[str, str]):
    """Template values: each name gets the prefix."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def __missing__(self, name: str) -> str:
        return self._prefix + name
