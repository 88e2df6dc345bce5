"""What poll_spin_us buys and what it costs, by how much there is to forward.

    python -m tests.figures.poll_spin [--rounds N] [--keep FILE]

With --keep the figures go behind those that the file keeps of earlier runs, and the table is of all."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.figures.round_trips import echo_server, measure_round_trips
from tests.figures.tables import measure_in_turn, medians, merged, print_table
from tests.scenarios.lab import Daemon, Lab, pair
from tests.scenarios.transfers import BLUE, RED, add_neighbour, ping

SPINS_US: Final = (0, 20, 50)
AT_ONCE: Final = 1_000_000
"""More than can be: each question follows the answer to the one before."""
RATES: Final = {0: 0.6, 100: 1.6, 1000: 1.0, 20_000: 1.0, AT_ONCE: 0.8}
"""Packets a second, half of them questions, half answers; and for how many seconds."""


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
        """Answers a second, the round trip's median and p99 in microseconds, the worker's CPU in per cent."""
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
    """By rate and spin, each round."""
    with contextlib.ExitStack() as stack:
        subjects = {spin_us: Subject(spin_us, stack) for spin_us in SPINS_US}
        keys = [(rate, spin_us) for rate in RATES for spin_us in SPINS_US]
        found = measure_in_turn(rounds, keys, lambda key: subjects[key[1]].measure(key[0]))
    return {f"{rate} {spin_us}": rows for (rate, spin_us), rows in found.items()}


def table(found: dict[str, list[tuple[float, ...]]]) -> list[Sequence[str]]:
    """A line a rate; of each spin the round trip's median and p99, and the CPU."""
    rows: list[Sequence[str]] = []
    for rate in RATES:
        cells = ["one after the other" if rate == AT_ONCE else f"{rate:,}"]
        for spin_us in SPINS_US:
            per_second, median, p99, cpu = medians(found[f"{rate} {spin_us}"])
            many = f" ({2 * per_second:,.0f} a second)" if rate == AT_ONCE else ""
            cells.append(f"{median:.0f} / {p99:.0f} µs, {cpu:.1f} %{many}" if rate else f"{cpu:.2f} %")
        rows.append(cells)
    return rows


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", type=Path)
    chosen = parser.parse_args()
    found = merged(chosen.keep, measured(chosen.rounds))
    print_table(["packets a second", *(f"poll_spin_us = {each}" for each in SPINS_US)], table(found))


if __name__ == "__main__":
    main()
