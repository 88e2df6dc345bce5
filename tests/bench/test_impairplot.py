from __future__ import annotations

from xml.etree import ElementTree

import pytest

from epaird.bench.impairplan import quick_impairment
from epaird.bench.impairplot import draw_impairment
from epaird.bench.impairresults import SUBJECT, ImpairmentResults
from tests.bench.picture import assert_within
from tests.bench.samples import MACHINE, impaired

SVG = "{http://www.w3.org/2000/svg}"


def picture(measured: ImpairmentResults) -> ElementTree.Element:
    return ElementTree.fromstring(draw_impairment(measured))  # noqa: S314 (drawn by the bench)


@pytest.mark.parametrize("speeds", [(0.5, 0.4, 0.6), (1,), (1e-4, 1e4)], ids=["usual", "one", "wild"])
def test_everything_is_within_the_picture(speeds: tuple[float, ...]) -> None:
    assert_within(picture(impaired(speeds)))


def test_every_panel() -> None:
    svg = picture(impaired())
    words = [element.text for element in svg.iter(f"{SVG}text")]
    for text in (
        "TCP, one stream",
        "delay 10 ms: 0.50",
        "and 1 % loss, BBR: 0.50",
        "Rate asked for and delivered by TCP",
        "10mbit: 1.000",
        "Error of a delay of 100 ms",
        "20,000 datagrams per second over several pairs: 50 pairs, 100 ms: 5.0 % lost",
    ):
        assert text in words
    assert words.count("no polling") == 3
    assert words.count("without") == 2
    dots = list(svg.iter(f"{SVG}circle"))
    assert len(dots) == 3 + 3 * 2 * 4  # rates, and percentiles with and without polling


def test_a_quick_run_has_fewer_panels() -> None:
    plan = quick_impairment()
    full = impaired()
    rounds = [{SUBJECT: {job.key: round_[SUBJECT][job.key] for job in plan.jobs}} for round_ in full.rounds]
    svg = picture(ImpairmentResults(MACHINE, plan, rounds))
    headings = [text.text for text in svg.iter(f"{SVG}text") if text.attrib["class"] == "heading"]
    assert len(headings) == 4
    assert_within(svg)


def test_it_has_two_colour_schemes_and_a_description() -> None:
    assert "prefers-color-scheme: dark" in draw_impairment(impaired())
    description = picture(impaired()).find(f"{SVG}desc")
    assert description is not None
    assert "with / without: TCP, one stream, delay 10 ms: 0.50" in (description.text or "")
    assert "delivered / theory: TCP with a rate, 10mbit: 1.00" in (description.text or "")
