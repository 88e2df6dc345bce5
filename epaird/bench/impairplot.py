"""The impairment part as a picture: an SVG of throughputs, rates, and errors of delays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from epaird.bench.charts import Box, Panel, bars, corner, logarithmic_axis, percentiles, picture, summaries
from epaird.bench.impairresults import (
    MANY,
    NO_POLLING,
    RATE_GIVEN,
    TCP,
    UDP,
    WITHOUT,
    ImpairmentResults,
)
from epaird.bench.quantities import digits, per_cent
from epaird.bench.results import Row
from epaird.bench.svg import Drawing

_ROOM: Final = 2.0
"""Factor by which the axes of the rates exceed the values."""


def draw_impairment(results: ImpairmentResults) -> str:
    """Return the picture as SVG text."""
    panels = [
        Panel(TCP, "Gbit/s, and with / without", _compared(results.group(TCP)), WITHOUT),
        Panel(UDP, "with / without", _compared(results.group(UDP)), WITHOUT),
        Panel(
            "Rate asked for and delivered by TCP",
            "Mbit/s: in theory across, delivered up; delivered / theory",
            partial(_rates, rows=results.group(RATE_GIVEN)),
        ),
    ]
    for delay_ms in results.plan.delays_ms:
        group = results.error_group(delay_ms)
        rows = results.group(group)
        panels.append(
            Panel(
                group,
                "µs, logarithmic, by percentile",
                partial(percentiles, rows=rows),
                NO_POLLING,
            )
        )
    drawing = picture(results, "Impaired cables: what they carry, and how exact they are", panels)
    for row in results.group(MANY):
        lost = max((row.lost or {}).values(), default=0.0)
        drawing.text(corner(), f"{row.group}: {row.label}: {per_cent(lost)} lost", anchor="end")
    return str(drawing)


def _compared(rows: Sequence[Row]) -> Callable[[Drawing, Box], None]:
    """Return what draws bars with the ratio of each row below them."""
    labels = [f"{row.label}: {digits(row.ratio.median) if row.ratio else '–'}" for row in rows]
    return partial(bars, rows=rows, labels=labels)


def _rates(drawing: Drawing, box: Box, rows: Sequence[Row]) -> None:
    """Draw a dot for each rate, above what is possible; on the line, both are equal."""
    found = [value.median for row in rows for value in summaries(row)]
    low, high = min(found) / _ROOM, max(found) * _ROOM
    up = logarithmic_axis(drawing, box, low, high)

    def along(value: float) -> float:
        return box.x + box.width * (box.bottom - up(value)) / box.height

    drawing.polyline([(along(value), up(value)) for value in (low, high)], "line-reference")
    for row in rows:
        theory, delivered = (row.summary(column) for column in row.columns)
        if theory is None or delivered is None or row.ratio is None:
            continue
        at = along(theory.median), up(delivered.median)
        hint = f"{row.label}: {delivered.median:.4g} of {theory.median:.4g} Mbit/s"
        drawing.circle(at, 5, "epaird", hint)
        words = f"{row.label}: {row.ratio.median:.3f}"
        drawing.text((at[0] + 9, at[1] + 12), words, "value")
        drawing.text((at[0], box.bottom + 17), digits(theory.median), anchor="middle")
