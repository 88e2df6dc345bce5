from __future__ import annotations

from xml.etree import ElementTree

from epaird.bench.svg import Drawing

SVG = "{http://www.w3.org/2000/svg}"


def drawing() -> Drawing:
    return Drawing(100, 50.5, "<title>", "a & b", ".grid { stroke: red; }")


def parsed(made: Drawing) -> ElementTree.Element:
    return ElementTree.fromstring(str(made))  # noqa: S314 (drawn by the test)


def test_an_empty_drawing() -> None:
    svg = parsed(drawing())
    assert svg.tag == f"{SVG}svg"
    assert (svg.attrib["viewBox"], svg.attrib["role"]) == ("0 0 100 50.5", "img")
    assert [(child.tag.removeprefix(SVG), child.text) for child in svg] == [
        ("title", "<title>"),
        ("desc", "a & b"),
        ("style", ".grid { stroke: red; }"),
    ]


def test_the_elements_keep_their_order() -> None:
    made = drawing()
    made.rect(1, 2, 3, 4, "background")
    made.line((0, 0.125), (10, 1 / 3), "grid")
    made.polyline([(0, 1), (2.5, 3)], "line-veth")
    made.circle((5, 6), 4.5, "veth")
    made.text((7, 8), "words", "quiet", "end")
    elements = [(child.tag.removeprefix(SVG), child.attrib) for child in parsed(made)][3:]
    assert elements == [
        ("rect", {"x": "1", "y": "2", "width": "3", "height": "4", "class": "background"}),
        ("line", {"x1": "0", "y1": "0.12", "x2": "10", "y2": "0.33", "class": "grid"}),
        ("polyline", {"points": "0,1 2.5,3", "class": "line-veth"}),
        ("circle", {"cx": "5", "cy": "6", "r": "4.5", "class": "veth"}),
        ("text", {"x": "7", "y": "8", "class": "quiet", "text-anchor": "end"}),
    ]


def test_a_negative_height_becomes_0() -> None:
    made = drawing()
    made.rect(0, 0, 10, -3, "veth")
    assert parsed(made)[-1].attrib["height"] == "0"


def test_text_is_escaped() -> None:
    made = drawing()
    made.text((0, 0), "<&>", 'a"b')
    made.rect(0, 0, 1, 1, "veth", hint="<hint> & more")
    text, rect = parsed(made)[-2:]
    assert (text.text, text.attrib["class"]) == ("<&>", 'a"b')
    assert [child.text for child in rect] == ["<hint> & more"]
