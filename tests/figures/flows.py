"""The benefit of coalescing when several flows share the bursts.

python -m tests.figures.flows [--rounds N] [--keep FILE]
"""

from __future__ import annotations

from typing import Final

from tests.figures.cable import datagrams, nanoseconds
from tests.figures.tables import figure_parser, measure_in_turn, medians, merged, print_table

FLOWS: Final = (1, 4, 16, 64)
SECONDS: Final = 0.3


def measured(flows: int) -> tuple[float, ...]:
    """Return nanoseconds a datagram: not coalesced; coalesced, flows contiguous; coalesced, flows in turn."""
    found = []
    for joined, mixed in ((False, False), (True, False), (True, True)):
        with datagrams(joined=joined, flows=flows, mixed=mixed) as (_, burst, frames):
            found.append(nanoseconds(burst, frames, SECONDS))
    return tuple(found)


def main() -> None:
    """Measure and print the table."""
    parser = figure_parser(__doc__, rounds=5)
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
