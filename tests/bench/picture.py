"""Checks of a picture."""

from __future__ import annotations

import math
from xml.etree import ElementTree


def assert_within(svg: ElementTree.Element) -> None:
    """Check that no element lies outside of a picture."""
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    across, down = (
        dict.fromkeys(("x", "x1", "x2", "cx"), width),
        dict.fromkeys(("y", "y1", "y2", "cy"), height),
    )
    for element in svg.iter():
        for name, limit in {**across, **down}.items():
            if name in element.attrib:
                value = float(element.attrib[name])
                assert math.isfinite(value)
                assert -0.5 <= value <= limit + 0.5, (element.tag, element.attrib)
