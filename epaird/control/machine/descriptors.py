"""File descriptors: as many as the machine lets us have, and whether they are enough.

A device has one for each queue, here and in the worker that reads it; a worker may be given all of them.
"""

from __future__ import annotations

import resource
from typing import Final

from epaird.config.settings import Configuration

RESERVE: Final = 128
"""For sockets, namespaces that are entered, workers, scrapers and those who ask for things."""


def needed(configuration: Configuration) -> int:
    """How many a process of the daemon may need for what the configuration says."""
    pairs = sum(2 * settings.queues for settings in configuration.epair.values())
    return pairs + len(configuration.loopbacks) + RESERVE


def have_enough(wanted: int) -> list[str]:
    """Raise the limit as far as it goes, here and for the workers to come; what is missing, a line each."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most == resource.RLIM_INFINITY or wanted <= most:
        return []
    return [
        f"these interfaces need {wanted} open files and {most} are allowed: raise LimitNOFILE= of the "
        f"service, or start it behind: ulimit -Hn {wanted}"
    ]
