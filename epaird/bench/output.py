"""Output of the programs that ``epaird bench`` starts: lines that it waits for."""

from __future__ import annotations

import sys


def write_line(text: str) -> None:
    """Write a line to stdout at once, even when stdout is a pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
