"""The named sets that are shipped. Every figure in them is that of a published source, which each names.

A link with a round trip of 50 ms delays each direction by 25 ms. Where the directions differ, there are two
sets: ``-down`` is for the half that stands for the network, ``-up`` for the half that stands for its user.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

# The figures of some sections have changed over time, so the version is part of the source.
_WEBPAGETEST: Final = (
    "WebPageTest, www/settings/connectivity.ini.sample, "
    "github.com/catchpoint/WebPageTest, commit 7e0d3b58c of 2023-11-21"
)
_RFC2488: Final = "RFC 2488, section 2 (Enhancing TCP Over Satellite Channels using Standard Mechanisms)"


@dataclass(frozen=True, slots=True)
class Preset:
    """A named set."""

    keys: Mapping[str, Any]
    """Its keys, in their canonical form."""
    summary: str
    """What it stands for, in a few words."""
    source: str
    """The publication that its figures are from."""


def _web(name: str, label: str, down: str, up: str, delay: str) -> Iterator[tuple[str, Preset]]:
    source = f"{_WEBPAGETEST}, [{label.partition(',')[0]}]"
    if down == up:
        yield name, Preset({"delay": delay, "rate": down}, label, source)
        return
    for direction, rate in (("down", down), ("up", up)):
        yield f"{name}-{direction}", Preset({"delay": delay, "rate": rate}, label, source)


SHIPPED: Final[Mapping[str, Preset]] = {
    **dict(_web("edge", "Edge, 840 ms round trip", "240kbit", "200kbit", "420ms")),
    **dict(_web("3g-slow", "3GSlow, 400 ms round trip", "400kbit", "400kbit", "200ms")),
    **dict(_web("3g", "3G, 300 ms round trip", "1.6mbit", "768kbit", "150ms")),
    **dict(_web("4g", "4G, 170 ms round trip", "9mbit", "9mbit", "85ms")),
    **dict(_web("lte", "LTE, 70 ms round trip", "12mbit", "12mbit", "35ms")),
    **dict(_web("dsl", "DSL, 50 ms round trip", "1.5mbit", "384kbit", "25ms")),
    **dict(_web("cable", "Cable, 28 ms round trip", "5mbit", "1mbit", "14ms")),
    **dict(_web("fiber", "FIOS, 4 ms round trip", "20mbit", "5mbit", "2ms")),
    "geo": Preset(
        {"delay": "239.6ms"}, "a geostationary satellite above the ground station, propagation only", _RFC2488
    ),
    "geo-edge": Preset(
        {"delay": "279ms"}, "a geostationary satellite at the edge of its view, propagation only", _RFC2488
    ),
}
"""The sets by name. A set of the configuration with the same name takes precedence."""
