"""Soak a daemon: create, destroy, reload, kill and upgrade at random, under traffic.

    python -m tests.soak --minutes 10
    python -m tests.soak --seed 4711 --operations 57    the same run again, up to its 57th operation

Needs root. Exit status: 0 everything held, 1 something did not, 130 interrupted.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence

from rich.console import Console

from tests.soak.report import Report
from tests.soak.soak import Soak, SoakFailed

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Soak a daemon.")
    parser.add_argument("--minutes", type=float, default=10, help="duration (%(default)s)")
    parser.add_argument("--operations", type=int, help="number of operations, instead of a time")
    parser.add_argument("--seed", type=int, help="seed of the sequence of operations (default: random)")
    wanted = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(10_000) if wanted.seed is None else wanted.seed
    console = Console(soft_wrap=True)
    console.print(f"seed {seed}", highlight=False)
    report = Report(console)
    soak = Soak(seed, report.line)
    ending = time.monotonic() + 60 * wanted.minutes
    operations: int | None = wanted.operations

    def goes_on(done: int) -> bool:
        return done < operations if operations is not None else time.monotonic() < ending

    status = 0
    try:
        with report.progressing(60 * wanted.minutes, operations):
            soak.run(goes_on)
    except SoakFailed as error:
        console.print(str(error), markup=False, highlight=False)
        status = 1
    except KeyboardInterrupt:
        console.print("interrupted", highlight=False)
        status = INTERRUPTED
    report.table(soak)
    again = f"make soak SEED={seed} OPERATIONS={len(soak.done) + 1}"
    console.print("everything held" if status == 0 else f"to repeat: {again}", highlight=False)
    return status


if __name__ == "__main__":
    sys.exit(main())
