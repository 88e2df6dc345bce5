"""Heartbeats: which worker has hung, so that its process is to be killed and replaced.

A worker's own loop writes the time into the ledger four times a second, and whenever it has forwarded.  One
that has not for a while has hung, and sooner is taken for hung when frames wait for it.  But not so when
nobody could have done better: when the whole machine was suspended, or so busy that this very look comes
late; and the time is not counted in which the process wanted to run and was not let (the kernel's
run_delay).  A child that was stopped by a signal is seen at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from epaird.control.workforce.workers import Worker

log = logging.getLogger(__name__)

LOOK_S: Final = 0.05
"""How often it is looked at every worker while one of them forwards."""
IDLE_LOOK_S: Final = 0.2
"""How often otherwise."""
HUNG_S: Final = 0.75
"""A heart that has not beaten for so long has stopped: three beats."""
WAITED_FOR: Final = 0.4
"""Of that time, when frames wait."""
PATIENCE: Final = 8
"""Who has not been let run for so many times as long is taken for hung all the same."""


class Heart:
    """What is known of one process.  Times are nanoseconds of CLOCK_MONOTONIC."""

    def __init__(self, hung_s: float = HUNG_S) -> None:
        self._hung_ns = int(hung_s * 1e9)
        self._beat_ns = 0
        self._since_ns = 0
        self._waited_ns = 0
        self._looked_ns = 0
        self._waited_for = False
        self.busy = False
        """It beats more often than it must, for it forwards; or it may have stopped."""

    def has_stopped(
        self, now_ns: int, beat_ns: int, waited_ns: Callable[[], int], frames_wait: Callable[[], bool]
    ) -> bool:
        """Whether it does nothing any more.

        ``beat_ns`` is when it beat last; ``waited_ns`` tells how long the process has waited for a
        processor in its life, and ``frames_wait`` whether there is something for it to do.  To be asked
        several times in every ``hung_s``."""
        late = now_ns - self._looked_ns > self._hung_ns * WAITED_FOR
        self._looked_ns = now_ns
        if beat_ns != self._beat_ns or late:
            # What passed while we did not look either is nobody's fault.
            self.busy = beat_ns - self._beat_ns < IDLE_LOOK_S * 1e9
            self._beat_ns = beat_ns
            self._since_ns = now_ns if late else max(beat_ns, now_ns - self._hung_ns)
            self._waited_ns = waited_ns()
            self._waited_for = False
            return False
        silent = now_ns - self._since_ns
        if silent < self._hung_ns * WAITED_FOR:
            return False
        self.busy = True
        idle = silent - (waited_ns() - self._waited_ns)
        before, self._waited_for = self._waited_for, frames_wait()
        if before and self._waited_for and idle >= self._hung_ns * WAITED_FOR:
            return True
        return idle >= self._hung_ns or silent > PATIENCE * self._hung_ns


async def watch(workers: Sequence[Worker], hung_s: float = HUNG_S) -> None:
    """For ever: kill the process of a worker that has hung or was stopped."""
    hearts: dict[int, Heart] = {}
    killed = 0
    while True:
        busy = any(heart.busy for heart in hearts.values())
        await asyncio.sleep(LOOK_S if busy else IDLE_LOOK_S)
        for worker in workers:
            pid = worker.pid
            if pid is None or pid == killed or not worker.forwards:
                continue
            if is_stopped(pid):
                killed = pid
                log.warning("worker %d (pid %d) is stopped: killing it", worker.number, pid)
                worker.kill()
            elif _has_stopped(hearts.setdefault(pid, Heart(hung_s)), worker, pid):
                killed = pid
                log.warning(
                    "worker %d (pid %d) has hung: its loop has not turned for %.1f s; killing it",
                    worker.number, pid, (time.monotonic_ns() - worker.beat_ns) / 1e9,
                )  # fmt: skip
                worker.kill()
        if len(hearts) > len(workers):
            pids = {each.pid for each in workers}
            hearts = {pid: heart for pid, heart in hearts.items() if pid in pids}


def _has_stopped(heart: Heart, worker: Worker, pid: int) -> bool:
    def frames_wait() -> bool:
        return any_readable(fd for each in worker.attachments.values() for fd in each.fds)

    return heart.has_stopped(time.monotonic_ns(), worker.beat_ns, lambda: waited_ns(pid), frames_wait)


def any_readable(fds: Iterable[int]) -> bool:
    """Whether there is something to read from any of these."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return any(events & select.POLLIN for _, events in poll.poll(0))


def is_stopped(pid: int) -> bool:
    """Whether a child was stopped by a signal (SIGSTOP) and not continued since."""
    with contextlib.suppress(ChildProcessError):
        found = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
        return found is not None
    return False


def waited_ns(pid: int) -> int:
    """How long a process has been ready to run and did not; 0 when it is not known (proc(5), schedstat)."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
