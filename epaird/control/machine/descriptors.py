"""The limit on open file descriptors: raised as far as the machine allows, and checked.

A device has one descriptor per queue in the control plane and one in the worker that reads it; a single
worker may be given all of them.
"""

from __future__ import annotations

import resource
from typing import Final

from epaird.config.settings import Configuration

RESERVE: Final = 128
"""Descriptors for sockets, namespaces that are entered, workers, scrapers and API clients."""


def required(configuration: Configuration) -> int:
    """Return how many descriptors one process of the daemon may need for a configuration."""
    pairs = sum(2 * settings.queues for settings in configuration.epair.values())
    return pairs + len(configuration.loopbacks) + RESERVE


def raise_limit(wanted: int) -> list[str]:
    """Raise the limit as far as possible, here and for workers to come.

    Return one line for each problem: none when ``wanted`` descriptors are allowed."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most == resource.RLIM_INFINITY or wanted <= most:
        return []
    return [
        f"these interfaces need {wanted} open files and {most} are allowed: raise LimitNOFILE= of the "
        f"service, or start it after: ulimit -Hn {wanted}"
    ]
