"""The watchdog of the workers: finds the process that has hung, and kills it so that it is replaced.

A worker's own loop writes a heartbeat into the ledger as long as it runs: a few times a second, and whenever
it has forwarded. A process that has written none although frames wait for it, or for longer than the interval
of heartbeats, is suspect. It is sent a ping, which a loop that runs answers at once with a heartbeat.

From then on every check adds to the evidence against the process the time in which it could have answered:
all of it while it slept or was held by a debugger, and the processor time it used while it computed. Time in
which it waited for a processor does not count, nor, unless it takes very long, time in which the kernel made
it wait, for example for memory. A single check adds 10 ms at most, so that a suspended machine or a late
check proves nothing.

Time is a parameter, in nanoseconds of CLOCK_MONOTONIC.
"""

from __future__ import annotations

import asyncio
import logging
import select
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Final

from epaird.control.workers.worker import Worker

log = logging.getLogger(__name__)

IDLE_CHECK_S: Final = 0.37
"""Interval of checks of an idle worker in seconds: out of step with its heartbeats."""
CHECK_S: Final = 0.015
"""Interval of checks while a worker forwards, in seconds."""
SUSPECT_CHECK_S: Final = 0.005
"""Interval of checks while a worker is suspect, in seconds."""
LATE_S: Final = 0.3
"""Seconds after it was due from which on a check is ignored."""

FRESH_NS: Final = 10_000_000
"""Age of a heartbeat up to which the worker may have forwarded; beyond it one for which frames wait is
suspect."""
OVERDUE_NS: Final = 450_000_000
"""Age of a heartbeat from which on a worker is suspect in any case: more than the worker's HEARTBEAT_S."""
PAUSE_NS: Final = 100_000_000
"""Age of a heartbeat from which on a worker counts as not forwarding at the moment."""
MOMENT_NS: Final = 10_000_000
"""Most that one check adds to the evidence: a tick of the coarsest clock of processor time (HZ=100)."""

HUNG_S: Final = 0.75
"""Seconds of silence after which a worker has hung, with at least the share EVIDENCE of it as evidence."""
EVIDENCE: Final = 0.1
"""Share of the time allowed that suffices as evidence after that time."""
EVIDENCE_FRAMES_WAIT: Final = 1 / 30
"""Share of the time allowed that suffices as evidence, however short the silence is, while frames wait."""
PATIENCE: Final = 8
"""Multiple of the time allowed after which a silent worker has hung even without evidence."""


@dataclass(frozen=True, slots=True)
class ProcessState:
    """A process as the kernel shows it (proc(5))."""

    state: str
    """``R`` runs or waits for a processor, ``S`` sleeps, ``D`` waits in the kernel, ``T`` is stopped by a
    signal, ``t`` by a debugger, ``Z`` has ended; empty when it cannot be read."""
    ran_ns: int
    """Processor time it has used in its life, in nanoseconds."""


class Diagnosis(Enum):
    """The result of a check."""

    ALIVE = auto()
    """Alive, or not suspect yet."""
    SUSPECT = auto()
    """To be sent a ping, once."""
    STOPPED = auto()
    """Stopped by a signal: to be killed."""
    HUNG = auto()
    """To be killed."""


class Liveness:
    """The heartbeats of one process and the evidence against it."""

    def __init__(self, hung_s: float = HUNG_S) -> None:
        """``hung_s`` is the silence allowed in seconds."""
        self._hung_ns = hung_s * 1e9
        self._activity: tuple[int, ...] = ()
        self._since_ns = 0
        self._checked_ns = 0
        self._fresh = False
        self._forwards = False
        self._pinged = False
        self._evidence_ns = 0
        self._ran_ns = 0

    @property
    def interval_s(self) -> float:
        """Seconds until the next check."""
        if self._pinged:
            return SUSPECT_CHECK_S
        return CHECK_S if self._forwards or self._fresh else IDLE_CHECK_S

    def check(
        self,
        now_ns: int,
        activity: tuple[int, ...],
        frames_wait: Callable[[], bool],
        process: Callable[[], ProcessState],
    ) -> Diagnosis:
        """Check the process.

        ``activity`` is the time of its last heartbeat, with other values that change only when it does
        something; ``frames_wait`` returns whether frames wait for it, and ``process`` its state. These are
        called only where they matter."""
        elapsed = now_ns - self._checked_ns
        late = elapsed > (self.interval_s + LATE_S) * 1e9
        self._checked_ns = now_ns
        if activity != self._activity or late:
            self._record(now_ns, activity, late)
            return Diagnosis.ALIVE
        silent = now_ns - self._since_ns
        if not self._pinged:
            return self._suspect(silent, frames_wait, process)
        self._evidence_ns += self._evidence(process(), elapsed, silent)
        if silent > PATIENCE * self._hung_ns:
            return Diagnosis.HUNG
        if silent > self._hung_ns and self._evidence_ns >= EVIDENCE * self._hung_ns:
            return Diagnosis.HUNG
        if self._evidence_ns >= EVIDENCE_FRAMES_WAIT * self._hung_ns and frames_wait():
            return Diagnosis.HUNG
        return Diagnosis.ALIVE

    def _record(self, now_ns: int, activity: tuple[int, ...], late: bool) -> None:
        age = now_ns - activity[0]
        before, self._fresh = self._fresh, age < FRESH_NS
        # A worker whose receiver takes nothing only answers pings although frames wait: it is not pinged
        # again.
        self._forwards = not self._pinged and (
            (before and self._fresh) or (self._forwards and age < PAUSE_NS)
        )
        self._pinged = False
        self._activity = activity
        self._since_ns = now_ns if late else activity[0]

    def _suspect(
        self, silent: int, frames_wait: Callable[[], bool], process: Callable[[], ProcessState]
    ) -> Diagnosis:
        self._fresh = silent < FRESH_NS
        if silent < OVERDUE_NS and not (self._forwards and not self._fresh and frames_wait()):
            self._forwards = self._forwards and silent < PAUSE_NS
            return Diagnosis.ALIVE
        found = process()
        if found.state == "T":
            return Diagnosis.STOPPED
        self._pinged = True
        self._evidence_ns = 0
        self._ran_ns = found.ran_ns
        return Diagnosis.SUSPECT

    def _evidence(self, found: ProcessState, elapsed: int, silent: int) -> int:
        """Return what a check adds to the evidence, in nanoseconds."""
        ran, self._ran_ns = found.ran_ns - self._ran_ns, found.ran_ns
        match found.state:
            case "R":
                could_have = ran
            case "D" | "Z" | "":
                could_have = elapsed if silent > self._hung_ns else 0
            case _:
                could_have = elapsed
        return min(could_have, MOMENT_NS)


async def watch(workers: Sequence[Worker], hung_s: float = HUNG_S) -> None:
    """Kill the process of every worker that has hung or was stopped, for ever."""
    watched: dict[int, Liveness] = {}
    killed: set[int] = set()
    while True:
        await asyncio.sleep(min((each.interval_s for each in watched.values()), default=IDLE_CHECK_S))
        running = {worker.pid: worker for worker in workers if worker.pid is not None and worker.forwards}
        killed &= running.keys()
        watched = {pid: watched.get(pid) or Liveness(hung_s) for pid in running.keys() - killed}
        killed |= {pid for pid, liveness in watched.items() if _check(running[pid], pid, liveness)}


def _check(worker: Worker, pid: int, liveness: Liveness) -> bool:
    """Check a worker, ping or kill its process if necessary, and return whether it was killed."""
    now_ns, activity = time.monotonic_ns(), worker.activity
    match liveness.check(now_ns, activity, lambda: _frames_wait(worker), lambda: process_state(pid)):
        case Diagnosis.ALIVE:
            return False
        case Diagnosis.SUSPECT:
            worker.ping()
            return False
        case Diagnosis.STOPPED:
            log.warning("worker %d (pid %d) is stopped: killing it", worker.number, pid)
        case Diagnosis.HUNG:
            log.warning(
                "worker %d (pid %d) has hung: its loop has not turned for %.2f s; killing it",
                worker.number, pid, (now_ns - activity[0]) / 1e9,
            )  # fmt: skip
    worker.kill()
    return True


def _frames_wait(worker: Worker) -> bool:
    return any_readable(fd for attachment in worker.attachments.values() for fd in attachment.fds)


def any_readable(fds: Iterable[int]) -> bool:
    """Return whether any of the descriptors is readable."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return any(events & select.POLLIN for _, events in poll.poll(0))


def process_state(pid: int) -> ProcessState:
    """Return the state of a process."""
    directory = Path(f"/proc/{pid}")
    try:
        state = (directory / "stat").read_text().rpartition(") ")[2][:1]
        return ProcessState(state, int((directory / "schedstat").read_text().split()[0]))
    except (OSError, ValueError, IndexError):
        return ProcessState("", 0)
