"""The one exception of this package."""

from __future__ import annotations

import errno
import os
from typing import Final

_WORDS: Final = {
    errno.EPERM: "not permitted: needs root, or CAP_NET_ADMIN and for namespaces CAP_SYS_ADMIN",
    errno.EACCES: "not permitted: needs root, or CAP_NET_ADMIN and for namespaces CAP_SYS_ADMIN",
    errno.EEXIST: "exists already",
    errno.EMFILE: "too many open files: raise LimitNOFILE= of the service, or ulimit -Hn",
    errno.ENODEV: "the device is gone",
    errno.EBADFD: "the device is gone",
}


class KernelError(Exception):
    """The kernel refused something.  ``str()`` is one line that names the thing and the cause."""

    def __init__(self, error: int, message: str) -> None:
        """``error`` is an errno number; ``message`` has no full stop and no line break."""
        super().__init__(message)
        self.errno: int = error

    @classmethod
    def about(cls, thing: str, error: int | None) -> KernelError:
        """What ``error`` means for ``thing``: ``epair0a: mtu 70000: Invalid argument``."""
        number = error or errno.EIO
        return cls(number, f"{thing}: {words_for(number)}")


def words_for(number: int) -> str:
    """What an errno means, and where we can say it, what to do."""
    return _WORDS.get(number) or os.strerror(number)
