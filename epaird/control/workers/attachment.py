"""A cable for a worker, and why a worker did not do what it was requested to do."""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace

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
    ports: tuple[int, ...]
    """Descriptors of its ports, in order, which the control plane keeps open."""
    files: tuple[tuple[int, ...], ...] = ()
    """Descriptors of the lines of its ports, by port, which it keeps open likewise; empty without lines."""

    @property
    def fds(self) -> tuple[int, ...]:
        """All descriptors, in the order in which they travel."""
        return (*self.ports, *(fd for files in self.files for fd in files))

    def without_lines(self) -> Attachment:
        """Return the same cable for a process that does not carry out impairment."""
        ports = tuple(replace(port, line=()) for port in self.spec.ports)
        return Attachment(replace(self.spec, ports=ports), self.ports)

    def without_line(self, port: int) -> Attachment:
        """Return the same cable without the line of one port."""
        files = tuple(() if number == port else each for number, each in enumerate(self.files))
        return Attachment(self.spec.impaired(port, ()), self.ports, files)

    @property
    def cable(self) -> str:
        """Name of the cable, unique in the worker."""
        return self.spec.name
