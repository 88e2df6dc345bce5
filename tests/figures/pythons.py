"""Which Python forwards fastest: the same frames over the same devices, by each in turn.

    python -m tests.figures.pythons [--rounds N] [--keep FILE] PYTHON...
    python -m tests.figures.pythons --alone      nanoseconds a frame by this Python, in JSON

Each PYTHON is an interpreter that has epaird's requirements python-pytun, uvloop and pyroute2."""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from tests.figures.cable import Burst, Cable, datagrams, nanoseconds, stream
from tests.figures.tables import measure_in_turn, medians, merged, print_table

SECONDS: Final = 0.6
Kind = Callable[[], AbstractContextManager[tuple[Cable, Burst, int]]]
KINDS: Final[dict[str, Kind]] = {
    "64 bytes, each by itself": lambda: datagrams(joined=False),
    "64 bytes, joined": lambda: datagrams(joined=True),
    "TCP, 64 KB": stream,
}


def alone() -> list[float]:
    """Nanoseconds that a frame of each kind takes here: the median of bursts, so that nothing else counts."""
    found = []
    for kind in KINDS.values():
        with kind() as (_, burst, frames):
            found.append(nanoseconds(burst, frames, SECONDS))
    return found


def by_another(python: str) -> list[float]:
    """The same by another Python."""
    said = subprocess.run(
        [python, "-m", "tests.figures.pythons", "--alone"], check=True, stdout=subprocess.PIPE
    )
    return [float(each) for each in json.loads(said.stdout)]


def version(python: str) -> str:
    """Of an interpreter."""
    code = "import platform; print(platform.python_version())"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("pythons", nargs="*", metavar="PYTHON")
    chosen = parser.parse_args()
    if chosen.alone:
        print(json.dumps(alone()))  # noqa: T201
        return
    pythons = {version(each): each for each in chosen.pythons}
    found = measure_in_turn(chosen.rounds, list(pythons), lambda each: by_another(pythons[each]))
    rows = [
        [name, *(f"{nanoseconds:.0f} ns ({1e9 / nanoseconds:,.0f}/s)" for nanoseconds in medians(figures))]
        for name, figures in merged(chosen.keep, found).items()
    ]
    print_table(["Python", *KINDS], rows)


if __name__ == "__main__":
    main()
