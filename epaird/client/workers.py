"""Models of the worker processes."""

from __future__ import annotations

from dataclasses import dataclass, field

from epaird.client.base import Model


@dataclass(frozen=True)
class WorkerInfo(Model):
    """One worker process, or a worker that has none."""

    worker: str
    """Number of its worker, `0`; empty for a spare."""
    state: str
    """`starting`, `running`, `retiring` while its cables move to another process, `spare`, or `dead` for a
    worker without a process."""
    pid: int | None = None
    """Process id."""
    version: str = ""
    """Version of epaird that it runs; empty for 0.3.0 and older."""
    uid: int | None = None
    """Effective user id."""
    capabilities: list[str] = field(default_factory=list)
    """Capabilities in any of its sets, `net_admin`; a worker should have none."""
    no_new_privs: bool = False
    """True when it cannot gain privileges by executing a program."""
    seccomp: str = ""
    """`filter` when its system calls are filtered, otherwise `none`."""
    landlock: int | None = None
    """Version of Landlock's ABI whose every right it has given up; 0 without Landlock; null when unknown."""
    namespaces: list[str] = field(default_factory=list)
    """Kinds of its namespaces that are its own and hold nothing: `net`, `mnt`, `ipc`, `uts`, `cgroup`."""
    missing: list[str] = field(default_factory=list)
    """Layers of its sandbox that it lacks, each with the reason."""
    cables: int = 0
    """Cables that it forwards."""
    queue_frames: int = 0
    """Frames that wait in its queue."""
    queue_limit: int = 0
    """Frames that its queue may hold."""
    cpu_seconds: float = 0.0
    """User and system time of the process."""
    total_cpu_seconds: float = 0.0
    """User and system time of all processes that its worker has had."""
    age_seconds: float = 0.0
    """Time since the start of the process."""
