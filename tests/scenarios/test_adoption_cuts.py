"""Deaths at the steps of a takeover and an upgrade: each queue has one reader, order is kept."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.deploy.manager import ServiceManager
from tests.scenarios.datagram_stream import DatagramStream
from tests.scenarios.faults import Cable, ManagedDaemon
from tests.scenarios.lab import Daemon, Lab, process_name
from tests.waiting import until

pytestmark = pytest.mark.real

PAIRS: Final = 4
OTHERS: Final = "".join(f"[epair.epair{unit}]\n" for unit in range(1, PAIRS))
RATE: Final = 5_000
EVERY: Final = "EPAIRD_EVERY_CUT" in os.environ
"""Try every step; otherwise a few that are spread over all."""
CUTS: Final = 4
NEVER: Final = 1 << 30
WRAPPER: Final = (sys.executable, str(Path(__file__).with_name("cuts.py")))


def queues(pid: int) -> list[str]:
    """Return the names of the devices whose queues a process has open."""
    found = []
    for each in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += re.findall(r"^iff:\s*(\S+)", each.read_text(), re.MULTILINE)
    return found


class Bench:
    """A cable whose daemons are replaced one after the other, with descriptors in a manager's store."""

    def __init__(self, lab: Lab, manager: ServiceManager) -> None:
        self.lab = lab
        self.manager = manager
        self.cable = Cable(lab, OTHERS, start=self._start, workers=2)
        self.stored()

    def _start(self, text: str, **daemon: Any) -> Daemon:  # noqa: ANN401
        return self.launch(self.lab.configuration(text, **daemon))

    def launch(self, file: Path, cut: str = "", after: str = "") -> ManagedDaemon:
        """Start a daemon as a manager does."""
        self.receive()
        variables = {
            "EPAIRD_CUT": cut or f"{NEVER}:self",
            "EPAIRD_STEPS": str(self.lab.directory / "steps"),
            "EPAIRD_CUT_AFTER": after,
        }
        (self.lab.directory / "steps").unlink(missing_ok=True)
        started = ManagedDaemon(self.lab, file, self.manager, WRAPPER if cut else (), **variables)
        self.lab._daemons.append(started)
        return started

    def receive(self) -> None:
        """Receive what the daemon has sent, and store nothing twice, as systemd by kcmp(2)."""
        self.manager.receive_all()
        stored = self.manager.unit.stored
        for number, each in reversed(list(enumerate(stored))):
            if each[0] in (name for name, _ in stored[:number]):
                stored.remove(each)
                os.close(each[1])

    def stored(self) -> None:
        """Wait until the store has the descriptors of every device."""

        def complete() -> bool:
            self.receive()
            return len(self.manager.unit.stored) == 2 * PAIRS + 1

        until(complete, lambda: str(self.manager.unit.stored))

    def succeed(self, cut: str) -> list[str]:
        """Kill the daemon, start its successor and cut it; return the steps that it took."""
        self.cable.daemon.crash()
        daemon = self.cable.daemon = self.launch(self.cable.daemon.file, cut)
        self._wait(daemon, "metrics: http://")
        return self._resume(daemon)

    def upgrade(self, cut: str, then: str = "") -> list[str]:
        """Replace the daemon, and cut the upgrade of the next one; return the steps that it took.

        The successor of one that was killed is cut in turn if ``then`` says so."""
        self.cable.daemon.crash()
        daemon = self.cable.daemon = self.launch(self.cable.daemon.file, cut, "upgrade")
        daemon.wait_ready()
        daemon.signal(signal.SIGUSR2)
        self._wait(daemon, "upgraded to epaird")
        return self._resume(daemon, then)

    def _wait(self, daemon: Daemon, words: str) -> None:
        def done() -> bool:
            self.receive()
            return words in daemon.stderr or not daemon.running

        until(done, daemon.__repr__)

    def _resume(self, daemon: Daemon, then: str = "") -> list[str]:
        steps = (self.lab.directory / "steps").read_text().splitlines()
        if not daemon.running:
            daemon.wait_exit()
            self.cable.daemon = self.launch(daemon.file, then)
            self._wait(self.cable.daemon, "metrics: http://")
            if not self.cable.daemon.running:
                return self._resume(self.cable.daemon)
        return steps

    def assert_exclusive(self) -> None:
        """Wait until there are two workers and a spare, and check that each queue has one reader."""

        def names() -> list[str]:
            self.receive()
            return sorted(map(process_name, self.lab.processes("epaird.dataplane")))

        until(
            lambda: names() == ["epaird-spare", "epaird-w0", "epaird-w1"],
            lambda: f"{names()} {self.lab.logs()}",
        )

        def readers() -> list[str]:
            return sorted(device for pid in self.cable.daemon.workers() for device in queues(pid))

        devices = [f"epair{unit}{side}" for unit in range(PAIRS) for side in "ab"]
        names_there = sorted("eth0" if device.startswith("epair0") else device for device in devices)
        until(lambda: readers() == names_there, lambda: f"{readers()} {self.lab.logs()}")
        sockets = {path.name for path in (self.lab.directory / "run").glob("worker-*.sock")}
        assert sockets == {f"worker-{pid}.sock" for pid in self.cable.daemon.workers()}


@pytest.fixture
def bench(lab: Lab) -> Iterator[Bench]:
    with ServiceManager(str(lab.directory / "notify")) as manager:
        yield Bench(lab, manager)


def chosen(count: int, what: str) -> list[int]:
    """Return the steps at which to cut: all, or about CUTS that differ for each ``what``."""
    pace = 1 if EVERY else max(1, count // CUTS)
    return list(range(sum(what.encode()) % pace, count, pace))


@pytest.mark.parametrize("what", ["w0", "newest", "self", "w0+w1", "newest+self"])
@pytest.mark.parametrize("how", ["succeed", "upgrade"])
def test_a_cut(bench: Bench, how: str, what: str) -> None:
    cable, cut = bench.cable, bench.succeed if how == "succeed" else bench.upgrade
    steps = cut(f"{NEVER}:self")
    bench.assert_exclusive()
    before = cable.page()
    stream: DatagramStream
    with cable.stream(RATE) as stream:
        cable.wait_for_frames(500)
        for number in chosen(len(steps), what):
            cut(f"{number}:{what}")
            bench.assert_exclusive()
            cable.wait_for_frames(200)
        outcome = cable.record(f"{what} killed at {how}", RATE, before, stream).outcome
    assert outcome.ordered
    assert_no_error(bench)


@pytest.mark.parametrize("what", ["w0-older", "w0-newer", "w0-older+self"])
def test_a_cut_after_a_half_done_renewal(bench: Bench, what: str) -> None:
    """A worker has two processes, each with some of its cables, when the successor begins."""
    cable = bench.cable
    upgrading, succeeding = bench.upgrade(f"{NEVER}:self"), bench.succeed(f"{NEVER}:self")
    renewal = [number for number, step in enumerate(upgrading) if "Keep" in step or "draining" in step]
    before = cable.page()
    with cable.stream(RATE) as stream:
        cable.wait_for_frames(500)
        for number, then in itertools.product(
            renewal if EVERY else renewal[len(renewal) // 3 :: len(renewal)],
            chosen(len(succeeding), what),
        ):
            # A worker that has to be started delays the hand-over of the others' cables.
            bench.upgrade(f"{number}:w1+self", f"{then}:{what}")
            bench.assert_exclusive()
            cable.wait_for_frames(200)
        outcome = cable.record(f"{what} killed after half a renewal", RATE, before, stream).outcome
    assert outcome.ordered
    assert_no_error(bench)


def assert_no_error(bench: Bench) -> None:
    """Check the logs of all daemons, and stop the last one."""
    assert not re.search(r"Traceback|internal error|is not forwarded any more", bench.lab.logs())
    bench.cable.daemon.stop()
    bench.manager.receive_all()
