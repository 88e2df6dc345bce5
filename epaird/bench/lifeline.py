"""Run a command that ends when the process that started it ends, however that ends.

    python lifeline.py PARENT SIGNAL COMMAND...

PARENT is the pid of that process, SIGNAL the number of the signal the command then gets.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h; this file is run by itself and imports nothing of the package


def main(arguments: list[str]) -> None:
    """Become the command."""
    parent, signal, *command = arguments
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal), 0, 0, 0)
    if os.getppid() != int(parent):  # it ended before it could be told
        return
    os.execvp(command[0], command)  # noqa: S606 (a shell is what it must not be)


if __name__ == "__main__":
    main(sys.argv[1:])
