"""Which half is plugged into which, by a configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from epaird.config.settings import Configuration, PairSettings
from epaird.names.grammar import HALVES

Peers = Mapping[str, str | None]
"""The peer of each half, by their own names; None: it is plugged into none."""


def peers(configuration: Configuration) -> dict[str, str | None]:
    """The peer of every half of a consistent configuration."""
    return wanted((name, settings) for name, settings in configuration.epair.items())


def wanted(pairs: Iterable[tuple[str, PairSettings]]) -> dict[str, str | None]:
    """As :func:`peers`, of these pairs.

    Where a half says whom it is plugged into, that holds for both; where neither half of a pair says
    anything, and nobody of them, they are each other's."""
    pairs = tuple(pairs)
    said = {name + side: settings.half(side).peer for name, settings in pairs for side in HALVES}
    found: dict[str, str | None] = {}
    for half, peer in said.items():
        if peer is not None and half not in found:
            found[half] = peer or None
            if peer:
                found[peer] = half
    for name, _ in pairs:
        a, b = (name + side for side in HALVES)
        free = a not in found and b not in found
        found.setdefault(a, b if free else None)
        found.setdefault(b, a if free else None)
    return {half: found[half] for half in said}


def at_first(name: str, settings: PairSettings) -> dict[str, str | None]:
    """The peers of a pair's halves when it has just been made: each other, or none for the time being."""
    a, b = (name + side for side in HALVES)
    own = settings.a.peer in (None, b) and settings.b.peer in (None, a)
    return {a: b if own else None, b: a if own else None}
