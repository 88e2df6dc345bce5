"""Input and output of the programs that ``epaird bench`` starts: lines that it waits for, and their end."""

from __future__ import annotations

import select
import sys


def write_line(text: str) -> None:
    """Write a line to stdout at once, even when stdout is a pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def stdin_ended() -> bool:
    """Return whether ``epaird bench`` has closed this program's stdin."""
    readable, _, _ = select.select([sys.stdin], [], [], 0)
    return bool(readable)
