"""As much of SVG as a chart needs, by hand: a library would wrap these five elements and no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal
from xml.sax.saxutils import escape, quoteattr

Anchor = Literal["start", "middle", "end"]
Point = tuple[float, float]

_NAMESPACE: Final = "http://www.w3.org/2000/svg"


class Drawing:
    """Elements, one behind the other.  How they look is up to their class and the style sheet."""

    def __init__(self, width: float, height: float, title: str, description: str, style: str) -> None:
        """The title and the description are for who cannot see it."""
        self._head = (
            f'<svg xmlns="{_NAMESPACE}" viewBox="0 0 {width:g} {height:g}" '
            f'width="{width:g}" height="{height:g}" '
            f"role=\"img\" font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\">"
            f"<title>{escape(title)}</title><desc>{escape(description)}</desc><style>{style}</style>"
        )
        self._elements: list[str] = []

    def __str__(self) -> str:
        return "\n".join([self._head, *self._elements, "</svg>\n"])

    def rect(self, x: float, y: float, width: float, height: float, look: str, hint: str = "") -> None:
        """A rectangle; ``hint`` is shown when the pointer is on it."""
        self._add("rect", {"x": x, "y": y, "width": width, "height": max(height, 0)}, look, hint)

    def line(self, start: Point, end: Point, look: str) -> None:
        """A straight line."""
        self._add("line", {"x1": start[0], "y1": start[1], "x2": end[0], "y2": end[1]}, look)

    def polyline(self, points: Sequence[Point], look: str) -> None:
        """A line through points."""
        joined = " ".join(f"{_short(x)},{_short(y)}" for x, y in points)
        self._elements.append(f'<polyline points="{joined}" class="{look}"/>')

    def circle(self, centre: Point, radius: float, look: str, hint: str = "") -> None:
        """A dot."""
        self._add("circle", {"cx": centre[0], "cy": centre[1], "r": radius}, look, hint)

    def text(self, at: Point, words: str, look: str = "", anchor: Anchor = "start") -> None:
        """Words on a base line."""
        self._elements.append(
            f'<text x="{_short(at[0])}" y="{_short(at[1])}" class={quoteattr(look)} '
            f'text-anchor="{anchor}">{escape(words)}</text>'
        )

    def _add(self, element: str, numbers: dict[str, float], look: str, hint: str = "") -> None:
        attributes = " ".join(f'{name}="{_short(value)}"' for name, value in numbers.items())
        inner = f"><title>{escape(hint)}</title></{element}>" if hint else "/>"
        self._elements.append(f"<{element} {attributes} class={quoteattr(look)}{inner}")


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
