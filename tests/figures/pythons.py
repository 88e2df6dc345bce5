"""The forwarding speed of several Pythons, with the same frames over the same devices.

    python -m tests.figures.pythons [--rounds N] [--keep FILE] PYTHON...
    python -m tests.figures.pythons --alone      nanoseconds a frame by this Python, in JSON

Each PYTHON is an interpreter with epaird's requirements python-pytun, uvloop and pyroute2.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from tests.figures.cable import Burst, Cable, datagrams, nanoseconds, stream
from tests.figures.tables import figure_parser, measure_in_turn, medians, merged, print_table

SECONDS: Final = 0.6
Kind = Callable[[], AbstractContextManager[tuple[Cable, Burst, int]]]
KINDS: Final[dict[str, Kind]] = {
    "64 bytes, each by itself": lambda: datagrams(joined=False),
    "64 bytes, joined": lambda: datagrams(joined=True),
    "TCP, 64 KB": stream,
}


def alone() -> list[float]:
    """Return the nanoseconds a frame of each kind takes here, as the median of bursts."""
    found = []
    for kind in KINDS.values():
        with kind() as (_, burst, frames):
            found.append(nanoseconds(burst, frames, SECONDS))
    return found


def by_another(python: str) -> list[float]:
    """Return the same figures of another Python."""
    child = subprocess.run(
        [python, "-m", "tests.figures.pythons", "--alone"], check=True, stdout=subprocess.PIPE
    )
    return [float(each) for each in json.loads(child.stdout)]


def version(python: str) -> str:
    """Return the version of an interpreter."""
    code = "import platform; print(platform.python_version())"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Measure and print the table."""
    parser = figure_parser(__doc__, rounds=5)
    parser.add_argument("--alone", action="store_true")
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
