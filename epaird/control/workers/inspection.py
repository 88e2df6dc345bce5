"""Worker processes as they are now: by the kernel's account where it has one, otherwise by their own.

Landlock is not visible from outside, nor are namespaces where the control plane may not examine processes, as
in the service. A process that was taken over can lie about these two and its version, and about nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from epaird.control.readings import ProcessReading
from epaird.control.workers.link import Link
from epaird.control.workers.processes import Launched
from epaird.control.workers.states import WorkerState
from epaird.control.workers.worker import Worker
from epaird.ipc.messages import Description
from epaird.kernel.procstatus import status_of

_STATES: Final = {
    WorkerState.SPAWNING: ("starting", "starting"),
    WorkerState.READY: ("running", "running"),
    WorkerState.RENEWING: ("running", "starting"),
    WorkerState.DRAINING: ("retiring", "running"),
}
"""What a worker's first and its second process are called, by its state."""


def processes_of(worker: Worker) -> list[ProcessReading]:
    """Return the processes of a worker, two while it is renewed; one without a pid when there is none."""
    seen = worker.reading()
    base = ProcessReading(
        seen.worker, "dead", queue_limit=seen.queue_limit, total_cpu_seconds=seen.cpu_seconds
    )
    found = []
    for number, (link, cables) in enumerate(worker.links.items()):
        state = _STATES[worker.state][number > 0]
        frames = seen.queue_frames if number == 0 else 0
        found.append(_inspected(replace(base, state=state, cables=cables, queue_frames=frames), link))
    return found or [base]


def spare_process(spare: Launched) -> ProcessReading:
    """Return a spare process."""
    return _filled(ProcessReading("", "spare"), spare.process.pid, spare.description)


def _inspected(reading: ProcessReading, link: Link) -> ProcessReading:
    return _filled(reading, link.pid, link.description)


def _filled(reading: ProcessReading, pid: int, described: Description | None) -> ProcessReading:
    reading = replace(reading, pid=pid)
    if described is not None:
        reading = replace(
            reading,
            version=described.version,
            landlock=described.landlock,
            namespaces=described.namespaces,
            missing=described.missing,
        )
    status = status_of(pid)
    if status is None:
        return reading
    return replace(
        reading,
        uid=status.uid,
        capabilities=status.capabilities,
        no_new_privs=status.no_new_privs,
        seccomp=status.seccomp,
        namespaces=reading.namespaces if status.namespaces is None else status.namespaces,
        cpu_seconds=status.cpu_seconds,
        age_seconds=status.age_seconds,
    )
