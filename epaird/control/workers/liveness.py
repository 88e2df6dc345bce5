"""Heartbeats: which worker has hung, so that its process is to be killed and replaced.

A worker's own loop writes the time into the ledger as long as it turns: a few times a second, and whenever
it has forwarded.  One that has not though frames wait for it, or for longer than a beat takes, is suspect.
It is asked for a sign of life, which a loop that turns gives at once.

From then on every look adds to the evidence against it the time in which it could have given one: asleep, or
held by somebody, all of it; computing, the processor time it used.  Not the time in which it waited for a
processor, nor, unless that takes very long, in which the kernel had it wait, for memory perhaps.  And no more
than a moment for each look: that the machine was suspended, or the look comes late, is nobody's fault.

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

IDLE_LOOK_S: Final = 0.37
"""How often it is looked at every worker: not in step with the beats of one that does nothing."""
LOOK_S: Final = 0.015
"""How often while one of them forwards."""
SUSPECT_LOOK_S: Final = 0.005
"""How often while one of them is suspect."""
LATE_S: Final = 0.3
"""A look so much later than it was due finds out nothing."""

FRESH_NS: Final = 10_000_000
"""Who beat so lately may have forwarded; who did not, and for whom frames wait, is suspect."""
OVERDUE_NS: Final = 450_000_000
"""Who has not beaten for so long is suspect in any case: longer than the worker's HEARTBEAT_S."""
PAUSE_NS: Final = 100_000_000
"""Who has not beaten for so long does not forward at the moment."""
MOMENT_NS: Final = 10_000_000
"""The most that one look adds to the evidence: a tick of the coarsest clock of processor time (HZ=100)."""

HUNG_S: Final = 0.75
"""A heart that has not beaten for so long has stopped, if there is as much evidence as:"""
EVIDENCE: Final = 0.1
"""Of that time; or, however short the silence is,"""
EVIDENCE_FRAMES_WAIT: Final = 1 / 30
"""of it, when frames wait."""
PATIENCE: Final = 8
"""Who is silent for so many times as long is taken for hung all the same."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A process as the kernel shows it (proc(5))."""

    state: str
    """``R`` runs or waits for a processor, ``S`` sleeps, ``D`` waits in the kernel, ``T`` is stopped by a
    signal, ``t`` by a debugger, ``Z`` has ended; empty when it cannot be seen."""
    ran_ns: int
    """Processor time it has used in its life."""


class Verdict(Enum):
    """What a look says."""

    WELL = auto()
    """Nothing yet, at least."""
    SUSPECT = auto()
    """It is to be asked for a sign of life, once."""
    STOPPED = auto()
    """By a signal: it is to be killed."""
    HUNG = auto()
    """It is to be killed."""


class Heart:
    """What is known of one process."""

    def __init__(self, hung_s: float = HUNG_S) -> None:
        self._hung_ns = hung_s * 1e9
        self._life: tuple[int, ...] = ()
        self._since_ns = 0
        self._looked_ns = 0
        self._fresh = False
        self._forwards = False
        self._asked = False
        self._evidence_ns = 0
        self._ran_ns = 0

    @property
    def look_s(self) -> float:
        """How soon to look at it again."""
        if self._asked:
            return SUSPECT_LOOK_S
        return LOOK_S if self._forwards or self._fresh else IDLE_LOOK_S

    def look(
        self,
        now_ns: int,
        life: tuple[int, ...],
        frames_wait: Callable[[], bool],
        sight: Callable[[], Sight],
    ) -> Verdict:
        """Look at it.

        ``life`` is when it beat last and whatever else changes only if it does something; ``frames_wait``
        tells whether there is something for it to do, and ``sight`` how it is.  They are asked only where
        there is reason to."""
        elapsed = now_ns - self._looked_ns
        late = elapsed > (self.look_s + LATE_S) * 1e9
        self._looked_ns = now_ns
        if life != self._life or late:
            self._lives(now_ns, life, late)
            return Verdict.WELL
        silent = now_ns - self._since_ns
        if not self._asked:
            return self._suspect(silent, frames_wait, sight)
        self._evidence_ns += self._against(sight(), elapsed, silent)
        if silent > PATIENCE * self._hung_ns:
            return Verdict.HUNG
        if silent > self._hung_ns and self._evidence_ns >= EVIDENCE * self._hung_ns:
            return Verdict.HUNG
        if self._evidence_ns >= EVIDENCE_FRAMES_WAIT * self._hung_ns and frames_wait():
            return Verdict.HUNG
        return Verdict.WELL

    def _lives(self, now_ns: int, life: tuple[int, ...], late: bool) -> None:
        age = now_ns - life[0]
        before, self._fresh = self._fresh, age < FRESH_NS
        # Who beat only since it was asked may have frames that nobody takes from it: it is let be.
        self._forwards = not self._asked and ((before and self._fresh) or (self._forwards and age < PAUSE_NS))
        self._asked = False
        self._life = life
        self._since_ns = now_ns if late else life[0]

    def _suspect(self, silent: int, frames_wait: Callable[[], bool], sight: Callable[[], Sight]) -> Verdict:
        self._fresh = silent < FRESH_NS
        if silent < OVERDUE_NS and not (self._forwards and not self._fresh and frames_wait()):
            self._forwards = self._forwards and silent < PAUSE_NS
            return Verdict.WELL
        seen = sight()
        if seen.state == "T":
            return Verdict.STOPPED
        self._asked = True
        self._evidence_ns = 0
        self._ran_ns = seen.ran_ns
        return Verdict.SUSPECT

    def _against(self, seen: Sight, elapsed: int, silent: int) -> int:
        """What a look adds to the evidence."""
        ran, self._ran_ns = seen.ran_ns - self._ran_ns, seen.ran_ns
        match seen.state:
            case "R":
                could_have = ran
            case "D" | "Z" | "":
                could_have = elapsed if silent > self._hung_ns else 0
            case _:
                could_have = elapsed
        return min(could_have, MOMENT_NS)


async def watch(workers: Sequence[Worker], hung_s: float = HUNG_S) -> None:
    """For ever: kill the process of a worker that has hung or was stopped."""
    hearts: dict[int, Heart] = {}
    killed: set[int] = set()
    while True:
        await asyncio.sleep(min((heart.look_s for heart in hearts.values()), default=IDLE_LOOK_S))
        those = {each.pid: each for each in workers if each.pid is not None and each.forwards}
        killed &= those.keys()
        hearts = {pid: hearts.get(pid) or Heart(hung_s) for pid in those.keys() - killed}
        killed |= {pid for pid, heart in hearts.items() if _see_to(those[pid], pid, heart)}


def _see_to(worker: Worker, pid: int, heart: Heart) -> bool:
    """Look at a worker's heart and do what is to be done; whether it was killed."""
    now_ns, life = time.monotonic_ns(), worker.life
    match heart.look(now_ns, life, lambda: _frames_wait(worker), lambda: sight_of(pid)):
        case Verdict.WELL:
            return False
        case Verdict.SUSPECT:
            worker.ask()
            return False
        case Verdict.STOPPED:
            log.warning("worker %d (pid %d) is stopped: killing it", worker.number, pid)
        case Verdict.HUNG:
            log.warning(
                "worker %d (pid %d) has hung: its loop has not turned for %.2f s; killing it",
                worker.number, pid, (now_ns - life[0]) / 1e9,
            )  # fmt: skip
    worker.kill()
    return True


def _frames_wait(worker: Worker) -> bool:
    return any_readable(fd for each in worker.attachments.values() for fd in each.fds)


def any_readable(fds: Iterable[int]) -> bool:
    """Whether there is something to read from any of these."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return any(events & select.POLLIN for _, events in poll.poll(0))


def sight_of(pid: int) -> Sight:
    """How a process is."""
    directory = Path(f"/proc/{pid}")
    try:
        state = (directory / "stat").read_text().rpartition(") ")[2][:1]
        return Sight(state, int((directory / "schedstat").read_text().split()[0]))
    except (OSError, ValueError, IndexError):
        return Sight("", 0)
