"""A conflict of a configuration's values, and how messages name a namespace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from epaird.config.values import Location
from epaird.names.grammar import quoted

HOME: Final = ""
"""The daemon's own namespace, in the spelling of ConfiguredInterface."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Values that exclude each other."""

    location: Location
    """The value that is reported, the later one of two."""
    message: str
    """One line."""
    rests_on: tuple[Location, ...] = ()
    """Places that cause the conflict; if one of them was refused, there may be no conflict."""


def in_words(namespace: str) -> str:
    """Return a namespace as a message names it."""
    return f"namespace {quoted(namespace)}" if namespace != HOME else "the daemon's own namespace"
