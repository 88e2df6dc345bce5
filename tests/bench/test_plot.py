from __future__ import annotations

from xml.etree import ElementTree

import pytest

from epaird.bench.plot import draw
from epaird.bench.results import Results
from tests.bench.picture import assert_within
from tests.bench.samples import results

SVG = "{http://www.w3.org/2000/svg}"


def picture(measured: Results) -> ElementTree.Element:
    return ElementTree.fromstring(draw(measured))  # noqa: S314 (drawn by the bench)


@pytest.mark.parametrize(
    "speeds",
    [((1, 1.5), (0.9, 1.4), (1, 1.6)), ((1, 1),), ((1, 1e-4), (1, 1e4))],
    ids=["usual", "one", "wild"],
)
def test_everything_is_within_the_picture(speeds: tuple[tuple[float, float], ...]) -> None:
    assert_within(picture(results(speeds)))


def test_both_subjects_and_every_panel() -> None:
    svg = picture(results())
    words = [element.text for element in svg.iter(f"{SVG}text")]
    for heading in (
        "Round trip",
        "Large transfers",
        "epaird / veth",
        "veth",
        "epaird",
        "1472",
        "p99.9",
        "16",
    ):
        assert heading in words
    bars = [element.attrib["class"] for element in svg.iter(f"{SVG}rect")]
    assert bars.count("reference") == 1 + 5 + 2 + 6  # the legend, sizes, transfers, CPU
    assert bars.count("epaird pale") == 6
    assert sum(element.attrib["class"] == "line-epaird" for element in svg.iter(f"{SVG}polyline")) == 2


def test_it_has_two_colour_schemes_and_a_description() -> None:
    text = draw(results())
    assert "prefers-color-scheme: dark" in text
    assert 'class="background"' in text
    svg = picture(results())
    assert svg.attrib["role"] == "img"
    description = svg.find(f"{SVG}desc")
    assert description is not None
    assert "64 bytes: 1.56" in (description.text or "")


def test_external_text_is_escaped() -> None:
    assert "A <fast> & quiet CPU" in "".join(picture(results()).itertext())
