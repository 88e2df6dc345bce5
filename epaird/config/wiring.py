"""The peers of halves that follow from a configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from epaird.config.settings import Configuration, PairSettings
from epaird.names.cloners import EPAIR

Peers = Mapping[str, str | None]
"""The peer of each half, by their own names; None for a half that is plugged into none."""


def peers(configuration: Configuration) -> dict[str, str | None]:
    """Return the peer of every half of a consistent configuration."""
    return peers_of_pairs(configuration.epair.items())


def peers_of_pairs(pairs: Iterable[tuple[str, PairSettings]]) -> dict[str, str | None]:
    """Return the peer of every half of these pairs.

    A half's ``peer`` holds for both halves that it joins. The halves of a pair are each other's peers if
    neither has a ``peer`` and no other half names either of them."""
    pairs = tuple(pairs)
    named = {half.device: half.settings.peer for name, settings in pairs for half in settings.devices(name)}
    found: dict[str, str | None] = {}
    for half, peer in named.items():
        if peer is not None and half not in found:
            found[half] = peer or None
            if peer:
                found[peer] = half
    for name, _ in pairs:
        a, b = EPAIR.devices_of(name)
        free = a not in found and b not in found
        found.setdefault(a, b if free else None)
        found.setdefault(b, a if free else None)
    return {half: found[half] for half in named}


def initial_peers(name: str, settings: PairSettings) -> dict[str, str | None]:
    """Return the peers of a new pair's halves: each other, or none until they are plugged elsewhere."""
    a, b = EPAIR.devices_of(name)
    own = settings.a.peer in (None, b) and settings.b.peer in (None, a)
    return {a: b if own else None, b: a if own else None}
