"""The named sets that are shipped. Every figure in them is that of a published source, which each names.

A link with a round trip of 50 ms delays each direction by 25 ms. Sets whose directions differ are two:
``-down`` is for the half that stands for the network, ``-up`` for the half that stands for its user.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_WEBPAGETEST: Final = "WebPageTest, www/settings/connectivity.ini.sample, github.com/catchpoint/WebPageTest"
_RFC2488: Final = "RFC 2488, section 2 (Enhancing TCP Over Satellite Channels)"


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
    for direction, rate in (("down", down), ("up", up)):
        keys = {"delay": delay, "rate": rate}
        yield f"{name}-{direction}", Preset(keys, label, f"{_WEBPAGETEST}, [{label.partition(',')[0]}]")


SHIPPED: Final[Mapping[str, Preset]] = {
    **dict(_web("edge", "Edge, 840 ms round trip", "240kbit", "200kbit", "420ms")),
    **dict(_web("3g", "3G, 300 ms round trip", "1.6mbit", "768kbit", "150ms")),
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
