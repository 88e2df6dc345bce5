"""Content negotiation: the representations that a request accepts, preferred first (RFC 9110, 12.4 and 12.5).

Accept and Accept-Encoding are lists of ranges, each with a weight ``q`` from 0, not wanted, to 1. The most
specific range that includes a representation determines its weight. A range whose weight is malformed is
ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

T = TypeVar("T", bound=str)

Coding = Literal["identity", "gzip"]

_CODINGS: Final[tuple[Coding, ...]] = ("identity", "gzip")
_ALIASES: Final = {"x-gzip": "gzip"}

_ELEMENTS: Final = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_PARTS: Final = re.compile(r'(?:[^;"]|"(?:[^"\\]|\\.)*"?)+')
_WEIGHT: Final = re.compile(r"0(?:\.[0-9]*)?|1(?:\.0*)?")


@dataclass(frozen=True, slots=True)
class _Range:
    """An element of a list."""

    name: str
    """``text/plain``, ``text/*``, ``*/*``; or a content coding or ``*``. In lower case."""
    parameters: Mapping[str, str]
    """Parameters of a media range: ``{"version": "1.0.0"}``."""
    weight: float
    """From 0 to 1."""


@dataclass(frozen=True, slots=True, order=True)
class _Preference:
    """The rank of a representation; the greatest is the best."""

    weight: float
    """Weight of the range that includes it."""
    specificity: tuple[int, int] = (0, 0)
    """Rank of that range among those that include the representation."""
    place: int = 0
    """Negative: place of that range in the list."""


def media_types(accept: str, offers: Sequence[str]) -> tuple[str, ...]:
    """Return the ``offers`` that an Accept header accepts, preferred first; empty if it excludes all of them.

    Offers are media types with their parameters, the default first. A header that mentions none of them is
    ignored, as by Prometheus' own exporters: all offers that it does not exclude are returned. A parameter
    that an offer does not have is ignored."""
    ranges = _parsed(accept)
    found = {offer: _media_preference(ranges, offer) for offer in offers}
    wanted = _ordered({offer: each for offer, each in found.items() if each is not None})
    return wanted or tuple(offer for offer, each in found.items() if each is None)


def codings(accept_encoding: str | None) -> tuple[Coding, ...]:
    """Return the content codings that an Accept-Encoding header accepts, preferred first.

    None means that there is no such header, and accepts ``identity`` only: a client that can decode sends
    one. When ``identity`` is not in the result an answer has to be encoded. An empty result excludes every
    coding."""
    if accept_encoding is None:
        return ("identity",)
    ranges = _parsed(accept_encoding)
    found: dict[Coding, _Preference] = {}
    for coding in _CODINGS:
        preference = _coding_preference(ranges, coding)
        if preference is not None:
            found[coding] = preference
        elif coding == "identity":
            # Acceptable unless excluded, and the last choice where another coding is mentioned.
            found[coding] = _Preference(weight=1e-9)
    return _ordered(found)


def _ordered(found: Mapping[T, _Preference]) -> tuple[T, ...]:
    """Return what has a weight, the best first; of equals the earlier one."""
    wanted = [each for each, preference in found.items() if preference.weight > 0]
    return tuple(sorted(wanted, key=found.__getitem__, reverse=True))


def _media_preference(ranges: Iterable[_Range], offer: str) -> _Preference | None:
    """Return the rank of a media type; None if no range includes it."""
    kind, parameters = _kind_and_parameters(offer)
    group = kind.partition("/")[0] + "/*"
    levels = {"*": 0, "*/*": 0, group: 1, kind: 2}
    fitting = [
        _Preference(each.weight, (levels[each.name], len(each.parameters.keys() & parameters.keys())), -place)
        for place, each in enumerate(ranges)
        if each.name in levels
        and all(parameters.get(name, value) == value for name, value in each.parameters.items())
    ]
    return max(fitting, key=lambda each: (each.specificity, each.place), default=None)


def _coding_preference(ranges: Iterable[_Range], coding: str) -> _Preference | None:
    """Return the rank of a content coding; None if no range includes it."""
    fitting = [
        _Preference(each.weight, (int(each.name != "*"), 0), -place)
        for place, each in enumerate(ranges)
        if _ALIASES.get(each.name, each.name) in (coding, "*")
    ]
    return max(fitting, key=lambda each: (each.specificity, each.place), default=None)


def _parsed(header: str) -> list[_Range]:
    found = []
    for element in _ELEMENTS.findall(header):
        name, parameters = _kind_and_parameters(element)
        weight = parameters.get("q", "1")
        if name and _WEIGHT.fullmatch(weight):
            others = {key: value for key, value in parameters.items() if key != "q"}
            found.append(_Range(name, others, float(weight)))
    return found


def _kind_and_parameters(text: str) -> tuple[str, dict[str, str]]:
    """Return a media type or coding and its parameters, all in lower case."""
    kind, *parts = (part.strip().lower() for part in _PARTS.findall(text) or [""])
    pairs = (part.partition("=") for part in parts)
    return kind, {name.strip(): value.strip().strip('"') for name, _, value in pairs if name.strip()}
