"""The exception that every function of this package raises."""

from __future__ import annotations

import errno
import os
from typing import Final

_EXPLANATIONS: Final = {
    errno.EPERM: "not permitted: needs root, or CAP_NET_ADMIN and for namespaces CAP_SYS_ADMIN",
    errno.EACCES: "not permitted: needs root, or CAP_NET_ADMIN and for namespaces CAP_SYS_ADMIN",
    errno.EEXIST: "exists already",
    errno.EMFILE: "too many open files: raise LimitNOFILE= of the service, or ulimit -Hn",
    errno.ENFILE: "too many open files on this machine: raise the sysctl fs.file-max",
    errno.ENODEV: "the device is gone",
    errno.EBADFD: "the device is gone",
}

LACKING: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""Errors of calls for which the process or the machine lacks something at the moment."""


class KernelError(Exception):
    """A request that the kernel refused. ``str()`` is one line that names the subject and the cause."""

    def __init__(self, error: int, message: str) -> None:
        """``error`` is an errno number; ``message`` has no full stop and no line break."""
        super().__init__(message)
        self.errno: int = error

    @property
    def lacking(self) -> bool:
        """True when the process or the machine lacked something: the error tells nothing of the subject."""
        return self.errno in LACKING

    @classmethod
    def about(cls, subject: str, error: int | None) -> KernelError:
        """Return the error for an errno number: ``epair0a: mtu 70000: Invalid argument``."""
        number = error or errno.EIO
        return cls(number, f"{subject}: {explain(number)}")


def explain(number: int) -> str:
    """Return the meaning of an errno number, with a remedy where one is known."""
    return _EXPLANATIONS.get(number) or os.strerror(number)
