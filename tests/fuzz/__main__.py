"""Fuzzing for some minutes: ``python -m tests.fuzz --minutes 10``.

Each target gets the same time, in runs with seeds of their own. An input that fails is shrunk, printed and
kept, and tried first from then on; the other targets go on.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import time
import traceback
from typing import Any, Final

from tests import conftest  # noqa: F401  (its hypothesis profile)
from tests.fuzz.reached import Reached
from tests.fuzz.target import KEPT, Target
from tests.fuzz.targets import TARGETS

_SEEDS: Final = 1 << 32


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--minutes", type=float, default=10, help="minutes for all targets together")
    parser.add_argument("--seed", type=int, help="repeats the same inputs, in the same order")
    parser.add_argument("--target", choices=[each.name for each in TARGETS], help="one target only")
    return parser.parse_args()


def main() -> int:
    """Return the exit status: 1 when an input failed."""
    arguments = _arguments()
    seed = arguments.seed if arguments.seed is not None else random.randrange(_SEEDS)
    targets = [each for each in TARGETS if arguments.target in (None, each.name)]
    if os.geteuid() != 0:
        for each in targets:
            if each.real:
                _print(f"{each.name:<16} left out: needs root")
        targets = [each for each in targets if not each.real]
    if not targets:
        return 1
    _print(f"seed {seed}")
    failed = [
        each.name for each in targets if not _fuzz(each, seed, arguments.minutes * 60 / len(targets), seed)
    ]
    _print(f"failed: {', '.join(failed)}" if failed else "everything held")
    return 1 if failed else 0


def _fuzz(target: Target[Any, Any], seed: int, seconds: float, first_seed: int) -> bool:
    """Try inputs until the time is over or one fails, and print the result; return True if none failed."""
    reached = Reached(target.subjects)
    numbers = random.Random(f"{seed} {target.name}")
    tried = itertools.count()
    runs = 0
    began = time.monotonic()
    at_first = 0
    held = True
    while held and (not runs or time.monotonic() < began + seconds):
        try:
            with reached.recorded():
                target.run(target.examples, numbers.randrange(_SEEDS), lambda: next(tried))
        except Exception:  # noqa: BLE001  (whatever it is, it is the failure)
            held = False
            traceback.print_exc(file=sys.stdout)
        at_first = at_first or reached.reached
        runs += 1
    lines = f", {reached.reached} of {reached.lines} lines reached" if target.subjects else ""
    if runs > 1 and target.subjects:
        lines += f" (+{reached.reached - at_first} since the first run)"
    result = "held" if held else "FAILED"
    _print(f"{target.name:<16} {result}: {next(tried)} inputs in {time.monotonic() - began:.0f} s{lines}")
    if not held:
        _print(
            f"  the input is kept in {KEPT / target.name}, and tried first from now on:\n"
            f"  make fuzz TARGET={target.name} MINUTES=0      (SEED={first_seed} repeats the whole run)"
        )
    return held


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
