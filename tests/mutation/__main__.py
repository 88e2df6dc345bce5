"""``python -m tests.mutation [MODULE ...]``: mutate modules, and print what their own tests do not notice.

A survivor that ``accepted.toml`` lists counts neither as killed nor in the total. The exit status is 1 when a
module's tests kill less than 95 %, or an entry of that file is stale.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.mutation.accepted import accepted
from tests.mutation.isolation import isolate
from tests.mutation.running import TestsFail, outcomes

ROOT: Final = Path(__file__).parents[2]
PERCENT: Final = 95
ROOMS: Final = ("dataplane", "ipc", "plan", "names", "config")
MORE: Final = (Path("epaird/client/counters.py"),)


def modules() -> Iterator[Path]:
    """The modules that are mutated if none is named."""
    for room in ROOMS:
        for path in sorted(Path("epaird", room).rglob("*.py")):
            if path.stat().st_size:
                yield path
    yield from MORE


def check(module: Path) -> bool:
    """Mutate a module and print each survivor and the result; True when its tests kill enough and no entry is
    stale."""
    known = accepted(module)
    killed = survived = passed_over = 0
    try:
        for each in outcomes(module):
            if each.killed:
                killed += 1
            elif known.accepts(each.mutation.name):
                passed_over += 1
            else:
                survived += 1
                _print(f"  {module}:{each.mutation.line}  {each.mutation.name}")
    except TestsFail:
        _print(f"{module}: its tests fail without any mutation")
        return False
    for key in known.stale:
        _print(f"  stale entry in accepted.toml: {key}")
    total = killed + survived
    percent = 100 * killed / total if total else 100
    _print(f"{module}: {percent:.1f} %: {killed} of {total} killed, {passed_over} accepted")
    return percent >= PERCENT and not known.stale


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Mutate the named modules, or all; return the exit status."""
    os.chdir(ROOT)
    named = [Path(each) for each in arguments]
    if unknown := [str(each) for each in named if not each.is_file()]:
        sys.stderr.write(f"no such module: {' '.join(unknown)}\n")
        return 2
    if os.geteuid() != 0:
        sys.stderr.write("needs root, for namespaces of its own\n")
        return 2
    isolate(arguments)
    results = [check(each) for each in named or modules()]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
