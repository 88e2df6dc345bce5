"""The results as a picture: an SVG of six panels that follows the reader's light or dark colour scheme."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from epaird.bench.machine import summary_line
from epaird.bench.plan import SUBJECTS
from epaird.bench.quantities import short, steps, ticks, with_unit
from epaird.bench.results import CPU, FORWARDER, PAIRS, RATE, ROUND_TRIP, VOLUME, Results, Row
from epaird.bench.statistics import Summary
from epaird.bench.svg import Drawing, Point

_WIDTH: Final = 1200
_HEIGHT: Final = 740
_MARGIN: Final = 32
_TOP: Final = 92
_GAP: Final = 36
_LABELLED_BAR: Final = 18
"""Least height of a bar with its figure inside."""

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
.veth { fill: #8b97a8; stroke: none; }
.epaird { fill: #e8741e; stroke: none; }
.pale { fill-opacity: 0.45; }
.line-veth { fill: none; stroke: #8b97a8; stroke-width: 2.2; }
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


def draw(results: Results) -> str:
    """Return the picture as SVG text."""
    drawing = Drawing(_WIDTH, _HEIGHT, "epaird bench", _description(results), _STYLE)
    drawing.rect(0, 0, _WIDTH, _HEIGHT, "background")
    _head(drawing, results)
    panels = (
        ("Datagrams delivered per second, by size", "bytes of payload", _rates),
        ("Large transfers", "Gbit/s", _volumes),
        ("Round trip", "µs, logarithmic, by percentile", _round_trips),
        ("CPU per datagram, by size", "µs; pale: sender and receiver. * with UDP_SEGMENT", _cpu),
        ("Datagrams delivered per second, by pairs in use", "pairs, 64 bytes", _pairs),
        ("epaird / veth", "median, lowest and highest; ↑ more is better, ↓ less", _ratios),
    )
    width = (_WIDTH - 2 * _MARGIN - 2 * _GAP) / 3
    height = (_HEIGHT - _TOP - _MARGIN - _GAP) / 2
    for index, (heading, note, panel) in enumerate(panels):
        x = _MARGIN + index % 3 * (width + _GAP)
        y = _TOP + index // 3 * (height + _GAP)
        drawing.text((x, y + 12), heading, "heading")
        drawing.text((x, y + 29), note, "quiet")
        panel(drawing, Box(x + 40, y + 46, width - 40, height - 46 - 22), results)
    return str(drawing)


def _description(results: Results) -> str:
    rows = (row for row in results.rows() if row.ratio is not None)
    return "epaird / veth: " + "; ".join(
        f"{row.group}, {row.label}: {row.ratio.median:.2f}" for row in rows if row.ratio
    )


def _head(drawing: Drawing, results: Results) -> None:
    drawing.text((_MARGIN, 40), "epaird compared with the kernel's veth", "title")
    rounds = f"{results.plan.rounds} rounds, {results.plan.seconds:g} s per figure"
    drawing.text((_MARGIN, 62), f"{summary_line(results.machine)}; {rounds}", "quiet")
    x = _WIDTH - _MARGIN - 150
    for subject in SUBJECTS:
        drawing.rect(x, 29, 12, 12, subject)
        drawing.text((x + 18, 40), subject)
        x += 80


def _rates(drawing: Drawing, box: Box, results: Results) -> None:
    rows = [row for row in results.group(RATE) if "SEGMENT" not in row.label]
    _bars(drawing, box, rows, [row.label.removesuffix(" bytes") for row in rows])


def _volumes(drawing: Drawing, box: Box, results: Results) -> None:
    rows = results.group(VOLUME)
    _bars(drawing, box, rows, [row.label.replace("64 KB,", "UDP, 64 KB by") for row in rows])


def _cpu(drawing: Drawing, box: Box, results: Results) -> None:
    rows = results.group(CPU)
    labels = [row.label.removesuffix(" bytes").replace("64 KB, UDP_SEGMENT", "64 KB*") for row in rows]
    _bars(drawing, box, rows, labels, results.group(FORWARDER))


def _bars(
    drawing: Drawing, box: Box, rows: Sequence[Row], labels: Sequence[str], parts: Sequence[Row] = ()
) -> None:
    """Draw a bar for each row and subject, with its range; ``parts`` are the portions in full colour."""
    top = max((value.high for row in rows for value in _summaries(row)), default=1.0)
    up = _linear_axis(drawing, box, top * 1.04)
    slot = box.width / max(1, len(rows))
    width = min(38.0, slot * 0.43)
    for index, (row, label) in enumerate(zip(rows, labels, strict=True)):
        middle = box.x + slot * (index + 0.5)
        drawing.text((middle, box.bottom + 17), label, anchor="middle")
        for side, subject in zip((-1, 1), SUBJECTS, strict=True):
            value = row.summary(subject)
            if value is None:
                continue
            x = middle + side * (width / 2 + 1)
            hint = f"{subject}, {row.label}: {_with_range(value, row.unit)}"
            part = parts[index].summary(subject) if parts else None
            css = subject if part is None else f"{subject} pale"
            drawing.rect(x - width / 2, up(value.median), width, box.bottom - up(value.median), css, hint)
            if part is not None:
                drawing.rect(x - width / 2, up(part.median), width, box.bottom - up(part.median), subject)
            _whisker(drawing, x, up(value.low), up(value.high))
            inside = box.bottom - up(value.median) > _LABELLED_BAR
            y = box.bottom - 5 if inside else up(value.high) - 5
            drawing.text((x, y), short(value.median), "inside" if inside else "value", "middle")


def _round_trips(drawing: Drawing, box: Box, results: Results) -> None:
    rows = results.group(ROUND_TRIP)
    found = [value for row in rows for value in _summaries(row)]
    if not found:
        return
    marks = steps(min(value.low for value in found), max(value.high for value in found))
    span = math.log10(marks[-1] / marks[0])

    def up(value: float) -> float:
        return box.bottom - box.height * math.log10(value / marks[0]) / span

    _axis(drawing, box, marks, up)
    _lines(drawing, box, rows, [row.label for row in rows], up)


def _pairs(drawing: Drawing, box: Box, results: Results) -> None:
    rows = results.group(PAIRS)
    top = max((value.high for row in rows for value in _summaries(row)), default=1.0)
    up = _linear_axis(drawing, box, top * 1.04)
    _lines(drawing, box, rows, [row.label.split()[0] for row in rows], up)


def _lines(drawing: Drawing, box: Box, rows: Sequence[Row], labels: Sequence[str], up: Scale) -> None:
    """Draw a line for each subject through its medians, with their ranges."""
    slot = box.width / max(1, len(rows))
    for index, label in enumerate(labels):
        drawing.text((box.x + slot * (index + 0.5), box.bottom + 17), label, anchor="middle")
    marks: list[tuple[Point, int, Row, Summary]] = []
    for side, subject in zip((-1, 1), SUBJECTS, strict=True):
        points: list[Point] = []
        for index, row in enumerate(rows):
            if (value := row.summary(subject)) is not None:
                points.append((box.x + slot * (index + 0.5) + side * 3, up(value.median)))
                marks.append((points[-1], side, row, value))
        drawing.polyline(points, f"line-{subject}")
    for (x, y), side, row, value in marks:
        subject = SUBJECTS[side > 0]
        _whisker(drawing, x, up(value.low), up(value.high))
        drawing.circle((x, y), 4, subject, f"{subject}, {row.label}: {_with_range(value, row.unit)}")
    for (x, y), side, _, value in marks:
        drawing.text((x + side * 7, y - 6), short(value.median), "value", "end" if side < 0 else "start")


_RATIO_MARKS: Final = {0.125: "⅛", 0.25: "¼", 0.5: "½", 1: "1", 2: "2", 4: "4", 8: "8"}
_GROUP_PREFIXES: Final = {RATE: "", VOLUME: "", ROUND_TRIP: "round trip ", CPU: "CPU, "}


def _ratios(drawing: Drawing, box: Box, results: Results) -> None:
    """Draw a dot for each of the main ratios, on a logarithmic axis around 1."""
    rows = [row for row in _main_rows(results) if row.ratio is not None]
    ratios = [row.ratio for row in rows if row.ratio is not None]
    reach = max((max(value.high, 1 / max(value.low, 1e-3)) for value in ratios), default=2.0)
    reach = min(max(reach * 1.05, 2.0), 8.0)
    inner = Box(box.x + 96, box.y, box.width - 96 - 36, box.height)

    def along(value: float) -> float:
        share = math.log(min(max(value, 1 / reach), reach)) / math.log(reach)
        return inner.x + inner.width * (share + 1) / 2

    for mark, words in _RATIO_MARKS.items():
        if 1 / reach <= mark <= reach:
            css = "axis" if mark == 1 else "grid"
            drawing.line((along(mark), inner.y), (along(mark), inner.bottom), css)
            drawing.text((along(mark), inner.bottom + 17), words, anchor="middle")
    slot = inner.height / max(1, len(rows))
    for index, (row, value) in enumerate(zip(rows, ratios, strict=True)):
        y = inner.y + slot * (index + 0.5)
        drawing.text((inner.x - 8, y + 4), _row_name(row), anchor="end")
        drawing.line((along(value.low), y), (along(value.high), y), "range")
        drawing.circle((along(value.median), y), 4.5, "epaird", f"{_row_name(row)}: {value.median:.2f}")
        drawing.text((inner.right + 36, y + 4), f"{value.median:.2f}", anchor="end")


def _main_rows(results: Results) -> list[Row]:
    """Return one end of each series, and the rows without a series."""
    sizes = results.group(RATE)
    cpu = results.group(CPU)
    trips = [row for row in results.group(ROUND_TRIP) if row.label in ("p50", "p99")]
    return [sizes[0], sizes[-2], *results.group(VOLUME), *trips, cpu[0]]


def _row_name(row: Row) -> str:
    label = "UDP, 64 KB" if "SEGMENT" in row.label else row.label.removesuffix(", one stream")
    return f"{_GROUP_PREFIXES[row.group]}{label} {'↑' if row.better == 'more' else '↓'}"


def _linear_axis(drawing: Drawing, box: Box, top: float) -> Scale:
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


def _summaries(row: Row) -> list[Summary]:
    return [value for subject in SUBJECTS if (value := row.summary(subject)) is not None]


def _with_range(value: Summary, unit: str) -> str:
    return f"{with_unit(value.median, unit)} ({with_unit(value.low, unit)} to {with_unit(value.high, unit)})"
