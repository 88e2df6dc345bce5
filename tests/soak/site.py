"""Where it happens: a laboratory with a daemon in it, what is expected of that, and how it is asked."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

from epaird.client.client import Client, DaemonError
from epaird.dataplane.process import WORKER
from tests.scenarios.ctl import asked, control_socket, epairctl, rewrite
from tests.scenarios.lab import Daemon, Lab, name_of
from tests.soak.expected import MADE, Expected, Interface, text
from tests.waiting import until

PLACES: Final = ("red", "blue", "green", "white")
_OURS: Final = ("a bug of ours", "Traceback", "is not forwarded any more", "rolling a reload back")
"""What no line of the log may say."""


class Site:
    """It, from ``with`` to its end."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.expected = Expected()
        for name in PLACES:
            lab.namespace(name, ipv6=False)
        self.daemon: Daemon = lab.launch(text(self.expected.file), **self._settings()).greeted()
        self._read = 0
        self._complaints: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.daemon.signal(signal.SIGCONT)

    # How it is asked.

    def ctl(self, *arguments: str) -> str:
        """What epairctl says, which succeeds."""
        return epairctl(self.lab, *arguments)

    def refused(self, *arguments: str) -> str:
        """What epairctl says, which is refused."""
        done = asked(self.lab, *arguments)
        if done.returncode != 1:
            raise AssertionError(f"epairctl {' '.join(arguments)} is not refused: {done}")
        return done.stderr

    def interfaces(self) -> list[dict[str, Any]]:
        """Every interface, by the API, with its counters."""
        client = Client(str(control_socket(self.lab)))
        try:
            found = {each["device"]: each for each in client.ask("GET", "interfaces")}
            counters = client.ask("GET", "stats")["interfaces"]
        except DaemonError as failed:
            raise AssertionError(str(failed)) from failed
        known = {each["device"]: each["stats"] for each in counters}
        return [each | {"stats": known[device]} for device, each in found.items() if device in known]

    def workers_by_number(self) -> dict[int, list[int]]:
        """The processes of each worker, by age."""
        found: dict[int, list[int]] = {}
        for pid in self.lab.processes("epaird.dataplane"):
            if (name := name_of(pid)).startswith(WORKER):
                found.setdefault(int(name.removeprefix(WORKER)), []).append(pid)
        return found

    def worker(self, number: int) -> int:
        """The process that is the worker of a number, once there is one."""
        return until(lambda: self.workers_by_number().get(number), self.recent)[-1]

    # What is done to it.

    def write(
        self, more: str = "", *, file: Mapping[str, Interface] | None = None, **settings: object
    ) -> None:
        """Have the file say what is expected of it, or what ``file`` is, and ``more``."""
        found = self.expected.file if file is None else file
        rewrite(self.daemon, text(found) + more, **{**self._settings(), **settings})

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        """Send a process a signal, if there still is one."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def again(self) -> None:
        """Start another daemon where one has ended, and wait until it has taken over."""
        self.new_lines()
        self.daemon.ended()
        self.daemon = self.lab.again(self.daemon)
        self._read = 0
        self.daemon.greeted()

    @contextlib.contextmanager
    def says(self, words: str, times: int = 1) -> Iterator[None]:
        """The daemon says something because of what is done in the block, so many times at least."""
        daemon = self.daemon
        wanted = len(daemon.said(words)) + times
        yield
        until(lambda: len(daemon.said(words)) >= wanted or not daemon.running, self.recent)
        assert len(daemon.said(words)) >= wanted, f"ended before it said {words!r}"

    # What is seen of it.

    def new_lines(self) -> list[str]:
        """What the log says that was not there before, and should not be there."""
        lines = self.daemon.log
        fresh, self._read = lines[self._read :], len(lines)
        self._complaints += [line for line in fresh if any(words in line for words in _OURS)]
        return self._complaints

    def recent(self) -> str:
        """The end of the log."""
        return "\n".join(self.daemon.log[-25:])

    def expanded(self, netns: str) -> str:
        """A namespace's real name; empty for the daemon's own."""
        return self.lab.expanded(netns)

    def run_directory(self) -> set[str]:
        """The files that should be in it."""
        found = {"control.sock", "lock", "state.json"}
        found |= {f"worker-{pid}.sock" for pids in self.workers_by_number().values() for pid in pids}
        return found | ({"namespaces.json"} if self.expected.namespace_made else set())

    def files(self) -> set[str]:
        """Those that are in it."""
        return {each.name for each in Path(control_socket(self.lab)).parent.iterdir()}

    def namespaces(self) -> list[str]:
        """Those of the laboratory, by their full names."""
        made = [MADE.removeprefix("$")] if self.expected.namespace_made else []
        return [self.lab[name].name for name in ("home", *PLACES, *made)]

    def _settings(self) -> dict[str, Any]:
        expected = self.expected
        return {"workers": expected.workers, "queue_limit": expected.queue_limit}
