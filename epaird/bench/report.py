"""The results as a table in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from epaird.bench.machine import summary_line
from epaird.bench.plan import SUBJECTS
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

_GOOD: Final = "green"
_BAD: Final = "red"
_CLEAR: Final = 1.05
"""Ratio, or its inverse, from which a ratio is coloured."""
_BUSY: Final = 0.5
"""Load at the start, per core, above which other programs disturb the measurement."""


def print_report(results: Results, console: Console) -> None:
    """Print the machine, the table and the notes."""
    console.print(Text(summary_line(results.machine), style="dim"))
    console.print()
    console.print(_table([], header=True))
    for name, rows in groupby(results.rows(), lambda row: row.group):
        console.print(Text(name, style="bold cyan"))
        console.print(_table(rows))
    console.print()
    for line in notes(results):
        console.print(Text(line, style="dim"))


def _table(rows: Iterable[Row], *, header: bool = False) -> Table:
    """Return a table of figures, ratios and losses. All tables have the same column widths."""
    table = Table(box=None, pad_edge=False, show_header=header, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("median", width=_LABEL, no_wrap=True)
    for subject in SUBJECTS:
        table.add_column(subject, width=_VALUE, justify="right", no_wrap=True)
    table.add_column("epaird / veth", width=_RATIO, no_wrap=True)
    table.add_column("lost", width=_LOST, no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    return table


def notes(results: Results) -> Iterator[str]:
    """Yield the notes that explain the table, one line each."""
    rounds = f"{results.plan.rounds} rounds" if results.plan.rounds > 1 else "1 round"
    yield (
        f"{rounds}, the two in turn, {results.plan.seconds:g} s per figure; in brackets the lowest and the "
        "highest round. Lost: by veth and by epaird, as a share of the datagrams sent at full speed."
    )
    orders = (
        f"{subject} {results.reordered(subject)} of {results.delivered(subject)}" for subject in SUBJECTS
    )
    yield f"Out of order: {', '.join(orders)}."
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
    values = (row.summary(subject) for subject in SUBJECTS)
    lost = ", ".join(per_cent(row.lost[subject]) for subject in SUBJECTS) if row.lost else ""
    return (
        Text(f"  {row.label}"),
        *(Text(with_unit(value.median, row.unit) if value else NOTHING) for value in values),
        _ratio(row.ratio, row.better),
        Text(lost),
    )


def _ratio(ratio: Summary | None, better: str) -> Text:
    if ratio is None:
        return Text(NOTHING)
    gain = ratio.median if better == "more" else 1 / ratio.median if ratio.median else 1.0
    style = _GOOD if gain >= _CLEAR else _BAD if gain <= 1 / _CLEAR else ""
    text = Text(digits(ratio.median), style=style)
    if ratio.low != ratio.high:
        text.append(f" ({digits(ratio.low)}–{digits(ratio.high)})", style="dim")
    return text.append(" ~", style="yellow") if ratio.noisy else text


def _ratio_spread(row: Row) -> float:
    return row.ratio.spread if row.ratio else 0.0
