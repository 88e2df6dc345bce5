"""Figures by what they are of, over several rounds, as a table in Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def measure_in_turn(
    rounds: int, keys: Sequence[Key], measure: Callable[[Key], Sequence[float]]
) -> dict[Key, list[tuple[float, ...]]]:
    """The figures of each key, by round; who was last in one round comes first in the next."""
    found: dict[Key, list[tuple[float, ...]]] = {key: [] for key in keys}
    for number in range(rounds):
        for key in keys if number % 2 == 0 else keys[::-1]:
            found[key].append(tuple(measure(key)))
    return found


def merged(
    file: Path | None, found: Mapping[str, Sequence[Sequence[float]]]
) -> dict[str, list[tuple[float, ...]]]:
    """What was found, behind what a file keeps of earlier runs; all of it is in the file then."""
    all_of_it: dict[str, list[tuple[float, ...]]] = {}
    if file is not None and file.exists():
        all_of_it = {
            key: [tuple(each) for each in rows] for key, rows in json.loads(file.read_text()).items()
        }
    for key, rows in found.items():
        all_of_it.setdefault(key, []).extend(tuple(each) for each in rows)
    if file is not None:
        file.write_text(json.dumps(all_of_it))
    return all_of_it


def medians(rows: Sequence[Sequence[float]]) -> list[float]:
    """Column by column."""
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    for row in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(row)} |")  # noqa: T201
