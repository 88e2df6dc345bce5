"""Panels of a picture and the charts in them, in the reader's light or dark colour scheme."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from epaird.bench.machine import summary_line
from epaird.bench.quantities import short, steps, ticks, with_unit
from epaird.bench.results import Results, Row
from epaird.bench.statistics import Summary
from epaird.bench.svg import Drawing, Point

_WIDTH: Final = 1200
_HEIGHT: Final = 740
_MARGIN: Final = 32
_TOP: Final = 92
_GAP: Final = 36
_LABELLED_BAR: Final = 18
"""Least height of a bar with its figure inside."""
_LEAST: Final = 0.1
"""Least value on a logarithmic axis."""
_LETTER: Final = 6.6
"""Width of a letter of a legend, about."""

# The background is painted, so that the picture is legible on any page.
_STYLE: Final = """
text { font-size: 12px; fill: #3d4654; }
.background { fill: #ffffff; }
.title { font-size: 20px; font-weight: 600; fill: #161b22; }
.heading { font-size: 14px; font-weight: 600; fill: #161b22; }
.quiet { font-size: 11.5px; fill: #667080; }
.value { font-size: 10.5px; fill: #3d4654; stroke: #ffffff; stroke-width: 3px; paint-order: stroke; }
.inside { font-size: 9.5px; fill: #161b22; }
.grid { stroke: #e4e8ee; stroke-width: 1; }
.axis { stroke: #8a94a3; stroke-width: 1; }
.range { stroke: #3d4654; stroke-width: 1.1; }
.reference { fill: #8b97a8; stroke: none; }
.epaird { fill: #e8741e; stroke: none; }
.pale { fill-opacity: 0.45; }
.line-reference { fill: none; stroke: #8b97a8; stroke-width: 2.2; }
.line-epaird { fill: none; stroke: #e8741e; stroke-width: 2.2; }
@media (prefers-color-scheme: dark) {
text { fill: #c3cad5; }
.background { fill: #12161c; }
.title, .heading { fill: #f0f3f7; }
.quiet { fill: #97a1af; }
.inside { fill: #0d1015; }
.value { fill: #c3cad5; stroke: #12161c; }
.grid { stroke: #272e38; }
.axis { stroke: #6d7786; }
.range { stroke: #c3cad5; }
}
"""


@dataclass(frozen=True, slots=True)
class Box:
    """The plotting area of a panel."""

    x: float
    y: float
    width: float
    height: float

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def right(self) -> float:
        return self.x + self.width


Scale = Callable[[float], float]
"""From a value to a coordinate."""
COLOURS: Final = ("reference", "epaird")
"""CSS classes of the two columns of a row."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One of the charts of a picture."""

    heading: str
    """Its heading."""
    note: str
    """The units, below the heading."""
    chart: Callable[[Drawing, Box], None]
    """Draws the chart in a box."""
    columns: tuple[str, str] | None = None
    """The names of the colours, if the panel has a legend of its own."""


def picture(results: Results, title: str, panels: Sequence[Panel]) -> Drawing:
    """Draw a picture: title, machine, and up to six panels."""
    drawing = Drawing(_WIDTH, _HEIGHT, "epaird bench", _description(results), _STYLE)
    drawing.rect(0, 0, _WIDTH, _HEIGHT, "background")
    drawing.text((_MARGIN, 40), title, "title")
    rounds = "1 round" if results.plan.rounds == 1 else f"{results.plan.rounds} rounds"
    duration = f"{rounds}, {results.plan.seconds:g} s per figure"
    drawing.text((_MARGIN, 62), f"{summary_line(results.machine)}; {duration}", "quiet")
    width = (_WIDTH - 2 * _MARGIN - 2 * _GAP) / 3
    height = (_HEIGHT - _TOP - _MARGIN - _GAP) / 2
    for index, panel in enumerate(panels):
        x = _MARGIN + index % 3 * (width + _GAP)
        y = _TOP + index // 3 * (height + _GAP)
        drawing.text((x, y + 12), panel.heading, "heading")
        drawing.text((x, y + 29), panel.note, "quiet")
        if panel.columns is not None:
            legend(drawing, (x + width, y + 29), panel.columns)
        panel.chart(drawing, Box(x + 40, y + 46, width - 40, height - 46 - 22))
    return drawing


def corner() -> Point:
    """Return the upper right corner of a picture, beside its title."""
    return _WIDTH - _MARGIN, 40


def legend(drawing: Drawing, right: Point, columns: tuple[str, str]) -> None:
    """Draw the names of the colours, which end at a point."""
    x, y = right
    for colour, column in reversed(tuple(zip(COLOURS, columns, strict=True))):
        drawing.text((x, y), column, anchor="end")
        x -= len(column) * _LETTER + 17
        drawing.rect(x, y - 11, 12, 12, colour)
        x -= 16


def _description(results: Results) -> str:
    rows = (row for row in results.rows() if row.ratio is not None)
    return ". ".join(
        f"{columns[1]} / {columns[0]}: "
        + "; ".join(f"{row.group}, {row.label}: {row.ratio.median:.2f}" for row in members if row.ratio)
        for columns, members in groupby(rows, lambda row: row.columns)
    )


def bars(
    drawing: Drawing, box: Box, rows: Sequence[Row], labels: Sequence[str], parts: Sequence[Row] = ()
) -> None:
    """Draw a bar for each row and column, with its range; ``parts`` are the portions in full colour."""
    top = max((value.high for row in rows for value in summaries(row)), default=1.0)
    up = linear_axis(drawing, box, top * 1.04)
    slot = box.width / max(1, len(rows))
    width = min(38.0, slot * 0.43)
    for index, (row, label) in enumerate(zip(rows, labels, strict=True)):
        middle = box.x + slot * (index + 0.5)
        drawing.text((middle, box.bottom + 17), label, anchor="middle")
        for side, colour, column in zip((-1, 1), COLOURS, row.columns, strict=True):
            value = row.summary(column)
            if value is None:
                continue
            x = middle + side * (width / 2 + 1)
            hint = f"{column}, {row.label}: {_with_range(value, row.unit)}"
            part = parts[index].summary(column) if parts else None
            css = colour if part is None else f"{colour} pale"
            drawing.rect(x - width / 2, up(value.median), width, box.bottom - up(value.median), css, hint)
            if part is not None:
                drawing.rect(x - width / 2, up(part.median), width, box.bottom - up(part.median), colour)
            _whisker(drawing, x, up(value.low), up(value.high))
            inside = box.bottom - up(value.median) > _LABELLED_BAR
            y = box.bottom - 5 if inside else up(value.high) - 5
            drawing.text((x, y), short(value.median), "inside" if inside else "value", "middle")


def lines(drawing: Drawing, box: Box, rows: Sequence[Row], labels: Sequence[str], up: Scale) -> None:
    """Draw a line for each column through its medians, with their ranges."""
    slot = box.width / max(1, len(rows))
    for index, label in enumerate(labels):
        drawing.text((box.x + slot * (index + 0.5), box.bottom + 17), label, anchor="middle")
    marks: list[tuple[Point, int, Row, Summary]] = []
    for side, colour in zip((-1, 1), COLOURS, strict=True):
        points: list[Point] = []
        for index, row in enumerate(rows):
            if (value := row.summary(row.columns[side > 0])) is not None:
                points.append((box.x + slot * (index + 0.5) + side * 3, up(value.median)))
                marks.append((points[-1], side, row, value))
        drawing.polyline(points, f"line-{colour}")
    for (x, y), side, row, value in marks:
        hint = f"{row.columns[side > 0]}, {row.label}: {_with_range(value, row.unit)}"
        _whisker(drawing, x, up(value.low), up(value.high))
        drawing.circle((x, y), 4, COLOURS[side > 0], hint)
    for (x, y), side, _, value in marks:
        drawing.text((x + side * 7, y - 6), short(value.median), "value", "end" if side < 0 else "start")


def percentiles(drawing: Drawing, box: Box, rows: Sequence[Row]) -> None:
    """Draw lines over percentiles, on a logarithmic axis."""
    found = [value for row in rows for value in summaries(row)]
    if found:
        low = max(_LEAST, min(value.low for value in found))
        up = logarithmic_axis(drawing, box, low, max(max(value.high for value in found), low))
        lines(drawing, box, rows, [row.label for row in rows], up)


def logarithmic_axis(drawing: Drawing, box: Box, low: float, high: float) -> Scale:
    """Draw a logarithmic axis from ``low``, above 0, to ``high``; lower values are drawn at its end."""
    marks = steps(low, high)
    span = math.log10(marks[-1] / marks[0])

    def up(value: float) -> float:
        return box.bottom - box.height * math.log10(max(value, marks[0]) / marks[0]) / span

    _axis(drawing, box, marks, up)
    return up


def linear_axis(drawing: Drawing, box: Box, top: float) -> Scale:
    """Draw an axis from 0 to ``top`` or just above."""
    marks = ticks(top)

    def up(value: float) -> float:
        return box.bottom - box.height * value / marks[-1]

    _axis(drawing, box, marks, up)
    return up


def _axis(drawing: Drawing, box: Box, marks: Sequence[float], up: Scale) -> None:
    for mark in marks:
        drawing.line((box.x, up(mark)), (box.right, up(mark)), "grid")
        drawing.text(
            (box.x - 7, up(mark) + 4), short(mark) if mark != int(mark) else _axis_label(mark), "quiet", "end"
        )
    drawing.line((box.x, box.bottom), (box.right, box.bottom), "axis")


def _axis_label(mark: float) -> str:
    """Return the label of a mark: ``200k`` for 200000."""
    for factor, prefix in ((1_000_000, "M"), (1000, "k")):
        if mark >= factor:
            return f"{mark / factor:g}{prefix}"
    return f"{mark:g}"


def _whisker(drawing: Drawing, x: float, low: float, high: float) -> None:
    drawing.line((x, low), (x, high), "range")
    for y in (low, high):
        drawing.line((x - 3, y), (x + 3, y), "range")


def summaries(row: Row) -> list[Summary]:
    """Return the summaries of a row's columns that have one."""
    return [value for column in row.columns if (value := row.summary(column)) is not None]


def _with_range(value: Summary, unit: str) -> str:
    return f"{with_unit(value.median, unit)} ({with_unit(value.low, unit)} to {with_unit(value.high, unit)})"
