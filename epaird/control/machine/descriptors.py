"""The limit on open file descriptors, and what descriptors are kept for.

1. When the daemon starts, the soft limit is raised to the hard one; workers inherit it.
2. In the control plane a device takes one descriptor for each queue and those of its line, if it is impaired:
   the ring's and its trace's. A worker takes WORKER, a client one, and everything else that is open while
   nothing happens BASE. In a worker a cable takes one descriptor for each port of each queue and those of its
   lines, and everything else fewer than BASE: a single worker may have every cable.
3. For each purpose descriptors are opened only as long as some stay free afterwards. Devices leave the most;
   then follow clients, the metrics page, and root. The rest is only used to replace workers, and for what a
   call opens and closes again; but one client of the page, and one that is root, are always served. So
   whatever takes descriptors, workers are replaced, the page is served, root's requests are answered, and the
   next control plane can take everything over.
4. A configuration that needs more is refused before anything is created: at the start, and in a reload that
   adds devices. A daemon that takes over from another one never ends for want of what is kept.
"""

from __future__ import annotations

import enum
import errno
import os
import resource
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from epaird.config.settings import Configuration, InterfaceSettings, PairSettings
from epaird.kernel.errors import KernelError
from epaird.plan.steps import Change, Create, Destroy, Plan, Recreate

BASE: Final = 40
"""Descriptors that are open while nothing happens. 31 were measured: with page, namespaces, watched file and
the spare process."""
WORKER: Final = 3
"""Descriptors of a worker: the socket to it, the pipe of its error messages and, if it was taken over, its
pidfd."""
LAUNCHING: Final = 2
"""Descriptors that are open while a worker is started, besides those of WORKER."""
CALLS: Final = 16
"""Descriptors that calls open and close again: at most one process is launched at a time, which takes 6, and
one thread calls the kernel, which takes 5 in another namespace."""
SHARES: Final = (8, 12, 12)
"""Descriptors that are only for root and what follows below it, the metrics page, and other clients."""

_FDS: Final = Path("/proc/self/fd")
_REMEDY: Final = "raise LimitNOFILE= of the service, or ulimit -Hn before the daemon starts"


class Purpose(enum.IntEnum):
    """A purpose of descriptors; each leaves more of them free than the one before."""

    ROOT = 0
    """A client of the API that is root."""
    PAGE = 1
    """A client of the metrics page."""
    CLIENT = 2
    """Any other client of the API."""
    DEVICE = 3
    """A device."""


def queues_of(settings: InterfaceSettings) -> int:
    """Return how many descriptors the devices of an interface take, and their lines."""
    if not isinstance(settings, PairSettings):
        return 1
    return 2 * settings.queues + sum(
        _files_of({**settings.impair.given(), **half.impair.given()}) for half in (settings.a, settings.b)
    )


def _files_of(keys: Mapping[str, object]) -> int:
    """Return how many descriptors a line takes at most, by the keys of its impairment."""
    return 1 + bool(keys.get("trace") or keys.get("preset")) if keys else 0


def check_start(configuration: Configuration) -> None:
    """Raise KernelError, EMFILE, if a daemon that takes nothing over cannot start with a configuration."""
    for line in shortage(required(configuration), hard_limit()):
        raise KernelError(errno.EMFILE, line)


def required(configuration: Configuration) -> int:
    """Return how many descriptors a daemon needs for a configuration."""
    workers = configuration.daemon.worker_count
    devices = sum(map(queues_of, configuration.settings_by_name().values()))
    return devices + BASE + WORKER * workers + kept(Purpose.DEVICE, workers)


def kept(purpose: Purpose, workers: int) -> int:
    """Return how many descriptors stay free when one is opened for a purpose."""
    return CALLS + LAUNCHING * workers + sum(SHARES[:purpose])


def raise_limit() -> None:
    """Raise the limit as far as possible, here and for workers to come."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def shortage(wanted: int, most: int) -> list[str]:
    """Return a line if ``wanted`` descriptors are more than the ``most`` that are allowed."""
    if most == resource.RLIM_INFINITY or wanted <= most:
        return []
    return [
        f"these interfaces need {wanted} open files and {most} are allowed: raise LimitNOFILE= of the "
        f"service, or start it after: ulimit -Hn {wanted}"
    ]


def hard_limit() -> int:
    """Return the limit up to which this process may raise its own."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def open_fds(directory: Path = _FDS) -> int:
    """Return the number of open descriptors."""
    # Linux before 6.2 reports a size of 0.
    return directory.stat().st_size or len(os.listdir(directory))  # noqa: PTH208  twice as fast


def growth(plan: Plan, existing: Mapping[str, int]) -> int:
    """Return how many more descriptors of devices are open at most while a plan is applied.

    ``existing`` has how many the devices of each interface take now."""
    found = 0
    for step in plan.possible.steps:
        if isinstance(step, Create | Recreate):
            found += queues_of(step.settings)
        elif isinstance(step, Change):
            found += max(0, queues_of(step.settings) - existing.get(step.name, 0))
        if isinstance(step, Destroy | Recreate):
            found -= existing.get(step.name, 0)
    return found


class Descriptors:
    """The descriptors of this process."""

    def __init__(self, workers: Callable[[], int] = lambda: 1) -> None:
        """``workers`` returns the number of workers."""
        self.workers = workers

    def free(self) -> int:
        """Return how many more can be opened: at most, if the limit was lowered below those that are open."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return (1 << 62 if limit == resource.RLIM_INFINITY else limit) - open_fds()

    def kept(self, purpose: Purpose) -> int:
        """Return how many descriptors stay free when one is opened for a purpose."""
        return kept(purpose, self.workers())

    def have_room(self, purpose: Purpose) -> bool:
        """Return whether one more descriptor may be opened for a purpose."""
        return self.free() > self.kept(purpose)

    def shortage(self, wanted: int) -> str:
        """Return why ``wanted`` more descriptors of devices cannot be opened; empty if they can."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        reserve, free = self.kept(Purpose.DEVICE), self.free()
        if wanted <= 0 or free - wanted >= reserve:
            return ""
        return (
            f"too many open files ({limit - free} of {limit} are in use, {reserve} are kept for workers and "
            f"clients, {wanted} {'is' if wanted == 1 else 'are'} needed): {_REMEDY}"
        )

    def check(self, device: str, count: int) -> None:
        """Raise KernelError, EMFILE, if there are too few descriptors for a device or a line that takes so
        many."""
        if text := self.shortage(count):
            raise KernelError(errno.EMFILE, f"{device}: {text}")

    def adoption_shortage(self, devices: int) -> str:
        """Return why devices and lines with so many descriptors cannot be taken over by a daemon with the
        limit of this one.

        What is kept for other purposes may be used for this one. Empty if they can."""
        wanted = devices + BASE + WORKER * self.workers() + CALLS
        if not shortage(wanted, most := hard_limit()):
            return ""
        return (
            f"to take over these interfaces {wanted} open files are needed and {most} are allowed: {_REMEDY}"
        )
