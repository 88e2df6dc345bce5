"""The results as a table in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from epaird.bench.machine import summary_line
from epaird.bench.quantities import digits, per_cent, with_unit
from epaird.bench.results import Results, Row
from epaird.bench.statistics import NOISY, Summary

NOTHING: Final = "–"
"""Placeholder for a missing figure."""
# Column widths in characters: 80 in total, the least width of a terminal.
_LABEL: Final = 20
_VALUE: Final = 11
_RATIO: Final = 18
_LOST: Final = 12
_PADDING: Final = 2

_GOOD: Final = "green"
_BAD: Final = "red"
_CLEAR: Final = 1.05
"""Ratio, or its inverse, from which a ratio is coloured."""
_BUSY: Final = 0.5
"""Load at the start, per core, above which other programs disturb the measurement."""


def print_report(results: Results, console: Console) -> None:
    """Print the machine, the table and the notes."""
    console.print(Text(summary_line(results.machine), style="dim"))
    for columns, members in groupby(results.rows(), lambda row: row.columns):
        rows = tuple(members)
        lost = any(row.lost is not None for row in rows)
        console.print()
        console.print(_table(columns, [], lost=lost, header=True))
        for name, group in groupby(rows, lambda row: row.group):
            console.print(Text(name, style="bold cyan"))
            console.print(_table(columns, group, lost=lost))
    console.print()
    for line in notes(results):
        console.print(Text(line, style="dim"))


def _table(columns: tuple[str, str], rows: Iterable[Row], *, lost: bool, header: bool = False) -> Table:
    """Return a table of figures, ratios and, if ``lost``, losses. All tables have the same column widths."""
    table = Table(
        box=None, pad_edge=False, show_header=header, header_style="bold", padding=(0, _PADDING, 0, 0)
    )
    table.add_column("median", width=_LABEL, no_wrap=True)
    for column in columns:
        table.add_column(column, width=_VALUE, justify="right", no_wrap=True)
    width = _RATIO if lost else _RATIO + _PADDING + _LOST
    table.add_column(f"{columns[1]} / {columns[0]}", width=width, no_wrap=True)
    if lost:
        table.add_column("lost", width=_LOST, no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row)[: len(table.columns)])
    return table


def notes(results: Results) -> Iterator[str]:
    """Yield the notes that explain the table, one line each."""
    yield from results.remarks()
    if noisy := [row for row in results.rows() if row.ratio is not None and row.ratio.noisy]:
        worst = max(noisy, key=_ratio_spread)
        low, high = (worst.ratio.low, worst.ratio.high) if worst.ratio else (0.0, 0.0)
        yield (
            f"~ noisy: {len(noisy)} of the ratios spread by more than {NOISY:.0%} up and down, worst "
            f"{worst.group.lower()}, {worst.label}: {digits(low)} to {digits(high)}. "
            "More rounds reduce the noise."
        )
    load, cores = float(results.machine["load"]), int(results.machine["cores"])
    if load > cores * _BUSY:
        yield f"The machine was not idle at the start: load {load:g} on {cores} cores."


def _cells(row: Row) -> tuple[Text, ...]:
    values = (row.summary(column) for column in row.columns)
    lost = ", ".join(map(per_cent, row.lost.values())) if row.lost else ""
    return (
        Text(f"  {row.label}"),
        *(Text(with_unit(value.median, row.unit) if value else NOTHING) for value in values),
        _ratio(row.ratio, row.better, "{:.3f}".format if row.exact else digits),
        Text(lost),
    )


def _ratio(ratio: Summary | None, better: str, shown: Callable[[float], str]) -> Text:
    if ratio is None:
        return Text(NOTHING)
    gain = ratio.median if better == "more" else 1 / ratio.median if ratio.median else 1.0
    style = _GOOD if gain >= _CLEAR else _BAD if gain <= 1 / _CLEAR else ""
    text = Text(shown(ratio.median), style=style)
    if ratio.low != ratio.high:
        text.append(f" ({shown(ratio.low)}–{shown(ratio.high)})", style="dim")
    return text.append(" ~", style="yellow") if ratio.noisy else text


def _ratio_spread(row: Row) -> float:
    return row.ratio.spread if row.ratio else 0.0
