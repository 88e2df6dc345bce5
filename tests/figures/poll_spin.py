"""The benefit and cost of poll_spin_us at several rates.

    python -m tests.figures.poll_spin [--rounds N] [--keep FILE]

With --keep the figures are added to those of earlier runs in the file, and the table shows all.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.figures.round_trips import echo_server, measure_round_trips
from tests.figures.tables import figure_parser, measure_in_turn, medians, merged, print_table
from tests.scenarios.lab import Daemon, Lab, pair
from tests.scenarios.transfers import BLUE, RED, add_neighbour, ping

SPINS_US: Final = (0, 20, 50)
UNPACED: Final = 1_000_000
"""A rate that is never reached: each request follows the reply to the previous one."""
RATES: Final = {0: 0.6, 100: 1.6, 1000: 1.0, 20_000: 1.0, UNPACED: 0.8}
"""Packets a second, half of them requests and half replies, and the seconds of each measurement."""


class Subject:
    """A daemon with one pair, one worker and a poll_spin_us."""

    def __init__(self, spin_us: int, stack: contextlib.ExitStack) -> None:
        self.lab = stack.enter_context(Lab())
        self.red, blue = (self.lab.namespace(name, ipv6=False) for name in ("red", "blue"))
        daemon: Daemon = self.lab.daemon(pair(ipv6=False), workers=1, poll_spin_us=spin_us)
        stack.callback(self.lab.finish)
        ping(self.red, BLUE)
        add_neighbour(self.red, blue, BLUE)
        add_neighbour(blue, self.red, RED)
        stack.enter_context(echo_server(blue, BLUE))
        self.worker = daemon.worker()

    def measure(self, rate: int) -> tuple[float, ...]:
        """Return replies a second, the round trip's median and p99 in microseconds, and the worker's CPU
        in percent."""
        before, seconds = self._ran_ns(), RATES[rate]
        if rate:
            answers = tuple(measure_round_trips(self.red, BLUE, rate // 2, seconds))
        else:
            time.sleep(seconds)
            answers = (0.0, 0.0, 0.0)
        return (*answers, 100 * (self._ran_ns() - before) / (seconds * 1e9))

    def _ran_ns(self) -> int:
        return int(Path(f"/proc/{self.worker}/schedstat").read_text().split()[0])


def measured(rounds: int) -> dict[str, list[tuple[float, ...]]]:
    """Return the figures by rate and spin, one row for each round."""
    with contextlib.ExitStack() as stack:
        subjects = {spin_us: Subject(spin_us, stack) for spin_us in SPINS_US}
        keys = [(rate, spin_us) for rate in RATES for spin_us in SPINS_US]
        found = measure_in_turn(rounds, keys, lambda key: subjects[key[1]].measure(key[0]))
    return {f"{rate} {spin_us}": rows for (rate, spin_us), rows in found.items()}


def table(found: dict[str, list[tuple[float, ...]]]) -> list[Sequence[str]]:
    """Return a row for each rate; for each spin the round trip's median and p99, and the CPU."""
    rows: list[Sequence[str]] = []
    for rate in RATES:
        cells = ["back to back" if rate == UNPACED else f"{rate:,}"]
        for spin_us in SPINS_US:
            per_second, median, p99, cpu = medians(found[f"{rate} {spin_us}"])
            many = f" ({2 * per_second:,.0f} a second)" if rate == UNPACED else ""
            cells.append(f"{median:.0f} / {p99:.0f} µs, {cpu:.1f} %{many}" if rate else f"{cpu:.2f} %")
        rows.append(cells)
    return rows


def main() -> None:
    """Measure and print the table."""
    parser = figure_parser(__doc__, rounds=5)
    chosen = parser.parse_args()
    found = merged(chosen.keep, measured(chosen.rounds))
    print_table(["packets a second", *(f"poll_spin_us = {each}" for each in SPINS_US)], table(found))


if __name__ == "__main__":
    main()
