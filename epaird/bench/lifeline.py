"""Run a command that ends when the process that started it ends, however that ends.

    python lifeline.py PARENT SIGNAL COMMAND...

PARENT is the pid of that process, SIGNAL the number of the signal that the command then receives.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h; this file runs as a script and imports nothing from the package


def main(arguments: list[str]) -> None:
    """Replace this process by the command."""
    parent, signal, *command = arguments
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal), 0, 0, 0)
    if os.getppid() != int(parent):  # the parent ended before prctl()
        return
    os.execvp(command[0], command)  # noqa: S606 (no shell is wanted)


if __name__ == "__main__":
    main(sys.argv[1:])
