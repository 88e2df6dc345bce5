"""The comparison with veth as a picture: an SVG of six panels."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Final

from epaird.bench.charts import (
    Box,
    Panel,
    bars,
    corner,
    legend,
    linear_axis,
    lines,
    percentiles,
    picture,
    summaries,
)
from epaird.bench.plan import SUBJECTS
from epaird.bench.results import CPU, FORWARDER, PAIRS, RATE, ROUND_TRIP, VOLUME, Results, Row
from epaird.bench.svg import Drawing


def draw(results: Results) -> str:
    """Return the picture as SVG text."""
    charts: tuple[tuple[str, str, Callable[[Results, Drawing, Box], None]], ...] = (
        ("Datagrams delivered per second, by size", "bytes of payload", _rates),
        ("Large transfers", "Gbit/s", _volumes),
        ("Round trip", "µs, logarithmic, by percentile", _round_trips),
        ("CPU per datagram, by size", "µs; pale: sender and receiver. * with UDP_SEGMENT", _cpu),
        ("Datagrams delivered per second, by pairs in use", "pairs, 64 bytes", _pairs),
        ("epaird / veth", "median, lowest and highest; ↑ more is better, ↓ less", _ratios),
    )
    panels = [Panel(heading, note, partial(chart, results)) for heading, note, chart in charts]
    drawing = picture(results, "epaird compared with the kernel's veth", panels)
    legend(drawing, corner(), SUBJECTS)
    return str(drawing)


def _rates(results: Results, drawing: Drawing, box: Box) -> None:
    rows = [row for row in results.group(RATE) if "SEGMENT" not in row.label]
    bars(drawing, box, rows, [row.label.removesuffix(" bytes") for row in rows])


def _volumes(results: Results, drawing: Drawing, box: Box) -> None:
    rows = results.group(VOLUME)
    bars(drawing, box, rows, [row.label.replace("64 KB,", "UDP, 64 KB by") for row in rows])


def _cpu(results: Results, drawing: Drawing, box: Box) -> None:
    rows = results.group(CPU)
    labels = [row.label.removesuffix(" bytes").replace("64 KB, UDP_SEGMENT", "64 KB*") for row in rows]
    bars(drawing, box, rows, labels, results.group(FORWARDER))


def _round_trips(results: Results, drawing: Drawing, box: Box) -> None:
    percentiles(drawing, box, results.group(ROUND_TRIP))


def _pairs(results: Results, drawing: Drawing, box: Box) -> None:
    rows = results.group(PAIRS)
    top = max((value.high for row in rows for value in summaries(row)), default=1.0)
    up = linear_axis(drawing, box, top * 1.04)
    lines(drawing, box, rows, [row.label.split()[0] for row in rows], up)


_RATIO_MARKS: Final = {0.125: "⅛", 0.25: "¼", 0.5: "½", 1: "1", 2: "2", 4: "4", 8: "8"}
_GROUP_PREFIXES: Final = {RATE: "", VOLUME: "", ROUND_TRIP: "round trip ", CPU: "CPU, "}


def _ratios(results: Results, drawing: Drawing, box: Box) -> None:
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
