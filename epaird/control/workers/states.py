"""The states of a worker and the transitions between them.

A worker lasts as long as the daemon wants it; its process may die and be replaced, or be renewed on purpose.
This table is the only way for a worker to get a process:

1. A worker begins DEAD. Either an orphan is adopted (READY), or a process is spawned for it (SPAWNING):
   started for it, or the spare. A worker in another state gets no process, so an orphan that comes second is
   not adopted, and a start waits for the replacement that is on its way.
2. A process that is SPAWNING takes no requests. Cables that are attached in this state wait for READY.
3. To renew a READY worker a second process is spawned (RENEWING). The first one still takes every request.
   When the second one is ready the first one is DRAINING: its cables move one by one, and new ones go to the
   second.
4. When either of two processes dies both are lost, since the ledger does not show which of them counted what:
   the worker is DEAD and a replacement is spawned, once both have ended and their account is settled.
5. A worker that is STOPPED has ended its process or left it as an orphan. Nothing leads out of this state.

A process that loses its place in the table is ended: one that is not ready in time, the old one of a renewal,
the process of a worker that is removed, an orphan that was not adopted. So every process of the daemon is
that of a worker, the spare, or about to end.

Which cables a process reads is a second rule, and does not depend on these states
(:mod:`epaird.control.workers.readers`). A process that takes a worker's place is given the cables of
``Worker.attachments``. During a takeover these are only the cables that the orphan forwarded itself; each
other cable is added when every orphan that had it has detached it or has ended
(:mod:`epaird.control.handover.orphans`). So it does not matter which process dies meanwhile.

While code awaits something, the process may die and the worker may be stopped or renewed: it has to check the
state afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final


class WorkerState(Enum):
    """The state of a worker."""

    DEAD = "dead"
    """It has no process; a replacement may follow."""
    SPAWNING = "spawning"
    """Its process has been started and takes no requests yet."""
    READY = "ready"
    """Its process takes requests."""
    RENEWING = "renewing"
    """Its process takes requests; another one is being started to take its place."""
    DRAINING = "draining"
    """Its cables move from one process to another, which takes requests as well."""
    STOPPED = "stopped"
    """It has ended, or has left its process as an orphan."""


TRANSITIONS: Final[Mapping[WorkerState, frozenset[WorkerState]]] = {
    # READY by adoption
    WorkerState.DEAD: frozenset({WorkerState.SPAWNING, WorkerState.READY, WorkerState.STOPPED}),
    # DEAD when the process does not become ready
    WorkerState.SPAWNING: frozenset({WorkerState.READY, WorkerState.DEAD, WorkerState.STOPPED}),
    WorkerState.READY: frozenset({WorkerState.RENEWING, WorkerState.DEAD, WorkerState.STOPPED}),
    # READY when the second process does not become ready
    WorkerState.RENEWING: frozenset(
        {WorkerState.DRAINING, WorkerState.READY, WorkerState.DEAD, WorkerState.STOPPED}
    ),
    WorkerState.DRAINING: frozenset({WorkerState.READY, WorkerState.DEAD, WorkerState.STOPPED}),
    WorkerState.STOPPED: frozenset({WorkerState.STOPPED}),
}
"""States that may follow each state."""

FORWARDING: Final = frozenset({WorkerState.READY, WorkerState.RENEWING, WorkerState.DRAINING})
"""States in which a worker has a process that takes requests."""
ENDED: Final = frozenset({WorkerState.DEAD, WorkerState.STOPPED})
"""States in which a worker has no process, or none any more."""
SETTLED: Final = FORWARDING | {WorkerState.STOPPED}
"""States in which a request need not wait: it can be sent, or never will be."""


class InvalidTransition(Exception):
    """A state does not follow another: an internal error."""


def advance(state: WorkerState, to: WorkerState) -> WorkerState:
    """Return the next state; raises InvalidTransition when it may not follow ``state``."""
    if to not in TRANSITIONS[state]:
        raise InvalidTransition(f"a worker that is {state.value} cannot become {to.value}")
    return to
