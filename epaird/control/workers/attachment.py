"""A cable for a worker, and why a worker did not do what it was requested to do."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from epaird.ipc.messages import CableSpec


class WorkerLost(Exception):
    """The process ended, or there was none to answer. ``str()`` is one line."""


class WorkerRefused(Exception):
    """The process cannot carry out a request. ``str()`` is one line."""

    def __init__(self, message: str, error: int = 0) -> None:
        """``error`` is an errno number; 0 if there is none."""
        super().__init__(message)
        self.errno = error or errno.EIO


@dataclass(frozen=True, slots=True)
class Attachment:
    """A cable that a worker forwards."""

    spec: CableSpec
    """Its ports and what is done with their frames."""
    fds: tuple[int, ...]
    """Descriptors of its ports, in order, which the control plane keeps open."""

    @property
    def cable(self) -> str:
        """Name of the cable, unique in the worker."""
        return self.spec.name
