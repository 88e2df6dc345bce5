"""A laboratory with a daemon and its expected state, and the means to query and disturb the daemon."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

from epaird.client.client import Client, DaemonError
from epaird.client.plans import PlanReport
from epaird.dataplane.process import WORKER
from tests.scenarios.ctl import control_socket, epairctl, rewrite, run_epairctl
from tests.scenarios.faults import small_disk
from tests.scenarios.lab import Lab, process_name
from tests.soak.expected import MADE, Expected, Interface, text
from tests.soak.pipeddaemon import PipedDaemon
from tests.waiting import until

NAMESPACES: Final = ("red", "blue", "green", "white")
CHANGING: Final = ("green", "white")
"""Namespaces of the pairs that operations touch; only these have IPv6, where the kernel sends frames of its
own."""
RUN_DIRECTORY_BYTES: Final = 256 << 10
"""Capacity of the file system of the run directory."""
_OURS: Final = ("internal error", "Traceback", "is not forwarded any more", "rolling a reload back")
"""Texts that no line of the log may contain."""


class Site:
    """The laboratory, from ``with`` to its end."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.expected = Expected()
        for name in NAMESPACES:
            lab.namespace(name, ipv6=name in CHANGING)
        for netns in (lab.home, *(lab[name] for name in CHANGING)):
            netns.write("/proc/sys/net/ipv6/conf/default/router_solicitations", "0")
        with contextlib.ExitStack() as undo:
            undo.enter_context(small_disk(control_socket(lab).parent, RUN_DIRECTORY_BYTES))
            file = lab.configuration(text(self.expected.file), **self._settings())
            self.daemon = self._launch(file).wait_ready()
            self._stack = undo.pop_all()
        self._read = 0
        self._complaints: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.daemon.signal(signal.SIGCONT)
        self._stack.close()

    # Queries.

    def ctl(self, *arguments: str) -> str:
        """Return the output of epairctl, which must succeed."""
        return epairctl(self.lab, *arguments)

    def refused(self, *arguments: str) -> str:
        """Return the error of epairctl, which must be refused."""
        done = run_epairctl(self.lab, *arguments)
        if done.returncode != 1:
            raise AssertionError(f"epairctl {' '.join(arguments)} is not refused: {done}")
        return done.stderr

    def interfaces(self) -> list[dict[str, Any]]:
        """Return every interface with its counters, and those of its line, from the API."""
        client = Client(str(control_socket(self.lab)))
        try:
            found = {each["device"]: each for each in client.ask("GET", "interfaces")}
            statistics = client.ask("GET", "stats")
        except DaemonError as failed:
            raise AssertionError(str(failed)) from failed
        lines = {each["device"]: each["counters"] for each in statistics["lines"]}
        known = {
            each["device"]: each["stats"] | {"line": lines.get(each["device"], {})}
            for each in statistics["interfaces"]
        }
        return [each | {"stats": known[device]} for device, each in found.items() if device in known]

    def interface(self, device: str) -> dict[str, Any]:
        """Return an interface with its counters, from the API."""
        found = [each for each in self.interfaces() if each["device"] == device]
        if not found:
            raise AssertionError(f"there is no {device}")
        return found[0]

    def has(self, name: str) -> bool:
        """Return whether a pair exists."""
        return any(each["pair"] == name for each in self.interfaces())

    def wait_until_saved(self, name: str) -> None:
        """Wait until the state or its journal has a pair, so that another control plane takes it over."""
        directory = control_socket(self.lab).parent
        until(lambda: any(f'"{name}"' in each.read_text() for each in directory.glob("state.*")), self.recent)

    def planned(self) -> PlanReport:
        """Return the plan of the daemon's own file."""
        client = Client(str(control_socket(self.lab)))
        try:
            return client.plan(self.daemon.file.read_text(), self.daemon.file.name)
        except DaemonError as failed:
            raise AssertionError(str(failed)) from failed

    def workers_by_number(self) -> dict[int, list[int]]:
        """Return the pids of each worker, in ascending order."""
        found: dict[int, list[int]] = {}
        for pid in self.lab.processes("epaird.dataplane"):
            if (name := process_name(pid)).startswith(WORKER):
                found.setdefault(int(name.removeprefix(WORKER)), []).append(pid)
        return found

    def worker(self, number: int) -> int:
        """Wait until a worker has a process and return its pid."""
        return until(lambda: self.workers_by_number().get(number), self.recent)[-1]

    # Disturbances.

    def write(
        self, more: str = "", *, file: Mapping[str, Interface] | None = None, **settings: object
    ) -> None:
        """Write the expected configuration, or ``file`` instead, with ``more`` added."""
        found = self.expected.file if file is None else file
        rewrite(self.daemon, text(found) + more, **{**self._settings(), **settings})

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process if it still exists."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def restart_daemon(self) -> None:
        """Start another daemon in place of one that ends, and wait until it has taken over."""
        self.launch_successor()
        self.daemon.wait_ready()

    def launch_successor(self) -> None:
        """Start another daemon in place of one that ends."""
        self.new_lines()
        self.daemon.wait_exit()
        self.daemon = self._launch(self.daemon.file)
        self._read = 0

    @contextlib.contextmanager
    def expect_log(self, words: str, times: int = 1) -> Iterator[None]:
        """Wait for ``times`` new log lines with these words at the end of the block."""
        daemon = self.daemon
        wanted = len(daemon.log_lines_with(words)) + times
        yield
        until(lambda: len(daemon.log_lines_with(words)) >= wanted or not daemon.running, self.recent)
        assert len(daemon.log_lines_with(words)) >= wanted, f"ended before it logged {words!r}"

    # Observations.

    def new_lines(self) -> list[str]:
        """Read the new log lines and return all lines so far that must not occur."""
        lines = self.daemon.log
        fresh, self._read = lines[self._read :], len(lines)
        self._complaints += [
            line for line in fresh if any(words in line for words in _OURS) or not line.isprintable()
        ]
        return self._complaints

    def recent(self) -> str:
        """Return the end of the log."""
        return "\n".join(self.daemon.log[-25:])

    def expand(self, netns: str) -> str:
        """Return a namespace's full name; empty for the daemon's own."""
        return self.lab.expand(netns)

    def run_directory(self) -> set[str]:
        """Return the files that the run directory should have."""
        found = {"control.sock", "lock", "state.json", "state.journal"}
        found |= {f"worker-{pid}.sock" for pids in self.workers_by_number().values() for pid in pids}
        return found | ({"namespaces.json"} if self.expected.namespace_made else set())

    def files(self) -> set[str]:
        """Return the files that the run directory has."""
        return {each.name for each in Path(control_socket(self.lab)).parent.iterdir()}

    def namespaces(self) -> list[str]:
        """Return the full names of the laboratory's namespaces."""
        made = [MADE.removeprefix("$")] if self.expected.namespace_made else []
        return [self.lab[name].name for name in ("home", *NAMESPACES, *made)]

    def _launch(self, file: Path) -> PipedDaemon:
        started = PipedDaemon(self.lab, file)
        self.lab._daemons.append(started)
        return started

    def _settings(self) -> dict[str, Any]:
        expected = self.expected
        return {"workers": expected.workers, "queue_limit": expected.queue_limit}
