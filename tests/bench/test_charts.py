from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from epaird.bench.charts import Box, legend, linear_axis, logarithmic_axis, percentiles
from epaird.bench.results import Row
from epaird.bench.svg import Drawing

SVG = "{http://www.w3.org/2000/svg}"
BOX = Box(40, 10, 300, 200)


def drawing() -> Drawing:
    return Drawing(400, 300, "", "", "")


def texts(made: Drawing) -> list[tuple[float, str | None]]:
    svg = ElementTree.fromstring(str(made))  # noqa: S314 (drawn by the test)
    return [(float(element.attrib["x"]), element.text) for element in svg.iter(f"{SVG}text")]


def test_a_linear_axis_goes_from_the_bottom_to_the_top() -> None:
    up = linear_axis(drawing(), BOX, 10)
    assert (up(0), up(10)) == (BOX.bottom, BOX.y)


def test_a_logarithmic_axis_has_equal_steps_for_equal_factors() -> None:
    up = logarithmic_axis(drawing(), BOX, 15, 90_000)
    assert up(10) == BOX.bottom
    assert up(10) - up(100) == pytest.approx(up(1000) - up(10_000))
    assert up(0) == BOX.bottom


def test_a_legend_ends_where_it_is_to_end() -> None:
    made = drawing()
    legend(made, (350, 20), ("without", "with"))
    (with_x, with_), (without_x, without) = texts(made)
    assert (with_x, with_, without) == (350, "with", "without")
    assert without_x < with_x


@pytest.mark.parametrize("values", [[0.0], [50.0, 1e6], [math.nan]])
def test_percentiles_of_any_values(values: list[float]) -> None:
    made = drawing()
    percentiles(made, BOX, [Row("errors", "p50", "µs", "less", {"off": values, "on": [50.0] * len(values)})])
    assert "p50" in [text for _, text in texts(made)]


def test_percentiles_of_nothing() -> None:
    made = drawing()
    percentiles(made, BOX, [Row("errors", "p50", "µs", "less", {"off": [math.nan], "on": [math.nan]})])
    assert texts(made) == []
