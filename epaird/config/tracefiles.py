"""Files with traces."""

from __future__ import annotations

import errno
from array import array
from pathlib import Path
from typing import Final

from epaird.config.reading import quoted_path
from epaird.config.regularfile import beginning
from epaird.config.syntax import lowered
from epaird.impairment import traces

BYTES_MAX: Final = 16 << 20
"""Bytes of the largest trace."""


class UnusableTrace(Exception):
    """A file that is no trace. ``str()`` is one line, which begins with the path."""

    def __init__(self, number: int, path: Path, reason: str) -> None:
        super().__init__(f"{quoted_path(path)}: {reason}")
        self.errno = number
        """The errno of the error."""


def read(path: Path) -> array[int]:
    """Return the opportunities in a file, as :func:`epaird.impairment.traces.parse`. Raises UnusableTrace."""
    try:
        text = beginning(path, BYTES_MAX + 1)
        if len(text) > BYTES_MAX:
            reason = f"is larger than {BYTES_MAX >> 20} MiB, the largest trace allowed"
            raise UnusableTrace(errno.EFBIG, path, reason)
        return traces.parse(text)
    except OSError as error:
        reason = lowered(error.strerror or str(error))
        raise UnusableTrace(error.errno or errno.EIO, path, reason) from error
    except traces.TraceError as error:
        raise UnusableTrace(errno.EINVAL, path, str(error)) from error
