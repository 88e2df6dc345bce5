"""The five SVG elements that a chart needs; a library would offer little more than these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal
from xml.sax.saxutils import escape, quoteattr

Anchor = Literal["start", "middle", "end"]
Point = tuple[float, float]

_NAMESPACE: Final = "http://www.w3.org/2000/svg"


class Drawing:
    """An SVG drawing. The CSS classes of its elements and the style sheet determine their appearance."""

    def __init__(self, width: float, height: float, title: str, description: str, style: str) -> None:
        """``title`` and ``description`` are for readers who cannot see the picture."""
        self._head = (
            f'<svg xmlns="{_NAMESPACE}" viewBox="0 0 {width:g} {height:g}" '
            f'width="{width:g}" height="{height:g}" '
            f"role=\"img\" font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\">"
            f"<title>{escape(title)}</title><desc>{escape(description)}</desc><style>{style}</style>"
        )
        self._elements: list[str] = []

    def __str__(self) -> str:
        return "\n".join([self._head, *self._elements, "</svg>\n"])

    def rect(self, x: float, y: float, width: float, height: float, css: str, hint: str = "") -> None:
        """Add a rectangle. ``hint`` is shown when the pointer is on it."""
        self._add("rect", {"x": x, "y": y, "width": width, "height": max(height, 0)}, css, hint)

    def line(self, start: Point, end: Point, css: str) -> None:
        """Add a straight line."""
        self._add("line", {"x1": start[0], "y1": start[1], "x2": end[0], "y2": end[1]}, css)

    def polyline(self, points: Sequence[Point], css: str) -> None:
        """Add a line through points."""
        joined = " ".join(f"{_short(x)},{_short(y)}" for x, y in points)
        self._elements.append(f'<polyline points="{joined}" class="{css}"/>')

    def circle(self, centre: Point, radius: float, css: str, hint: str = "") -> None:
        """Add a dot. ``hint`` is shown when the pointer is on it."""
        self._add("circle", {"cx": centre[0], "cy": centre[1], "r": radius}, css, hint)

    def text(self, at: Point, content: str, css: str = "", anchor: Anchor = "start") -> None:
        """Add text on a base line."""
        self._elements.append(
            f'<text x="{_short(at[0])}" y="{_short(at[1])}" class={quoteattr(css)} '
            f'text-anchor="{anchor}">{escape(content)}</text>'
        )

    def _add(self, element: str, numbers: dict[str, float], css: str, hint: str = "") -> None:
        attributes = " ".join(f'{name}="{_short(value)}"' for name, value in numbers.items())
        inner = f"><title>{escape(hint)}</title></{element}>" if hint else "/>"
        self._elements.append(f"<{element} {attributes} class={quoteattr(css)}{inner}")


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
