"""Figures of several cases over several rounds, as a Markdown table."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def figure_parser(description: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the options of every measurement: --rounds and --keep."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--keep", type=Path)
    return parser


def measure_in_turn(
    rounds: int, keys: Sequence[Key], measure: Callable[[Key], Sequence[float]]
) -> dict[Key, list[tuple[float, ...]]]:
    """Return the figures of each case by round; every other round runs in reverse order."""
    found: dict[Key, list[tuple[float, ...]]] = {key: [] for key in keys}
    for number in range(rounds):
        for key in keys if number % 2 == 0 else keys[::-1]:
            found[key].append(tuple(measure(key)))
    return found


def merged(
    file: Path | None, found: Mapping[str, Sequence[Sequence[float]]]
) -> dict[str, list[tuple[float, ...]]]:
    """Add figures to those of earlier runs in a file, and return all of them."""
    all_figures: dict[str, list[tuple[float, ...]]] = {}
    if file is not None and file.exists():
        all_figures = {
            key: [tuple(each) for each in rows] for key, rows in json.loads(file.read_text()).items()
        }
    for key, rows in found.items():
        all_figures.setdefault(key, []).extend(tuple(each) for each in rows)
    if file is not None:
        file.write_text(json.dumps(all_figures))
    return all_figures


def medians(rows: Sequence[Sequence[float]]) -> list[float]:
    """Return the median of each column."""
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    for row in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(row)} |")  # noqa: T201
