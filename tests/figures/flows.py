"""What joining saves of several flows that share the bursts.

python -m tests.figures.flows [--rounds N] [--keep FILE]"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from tests.figures.cable import datagrams, nanoseconds
from tests.figures.tables import measure_in_turn, medians, merged, print_table

FLOWS: Final = (1, 4, 16, 64)
SECONDS: Final = 0.3


def measured(flows: int) -> tuple[float, ...]:
    """Nanoseconds a datagram: one by one; joined, each flow's in one piece; joined, the flows in turn."""
    found = []
    for joined, mixed in ((False, False), (True, False), (True, True)):
        with datagrams(joined=joined, flows=flows, mixed=mixed) as (_, burst, frames):
            found.append(nanoseconds(burst, frames, SECONDS))
    return tuple(found)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", type=Path)
    chosen = parser.parse_args()
    found = measure_in_turn(chosen.rounds, [str(each) for each in FLOWS], lambda each: measured(int(each)))
    rows = [
        [flows, *(f"{each:.0f} ns" for each in medians(figures))]
        for flows, figures in merged(chosen.keep, found).items()
    ]
    print_table(
        ["flows", "coalesce = false", "joined, one flow after the other", "joined, flows in turn"], rows
    )


if __name__ == "__main__":
    main()
