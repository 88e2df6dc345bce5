"""Changes made at runtime, which are kept when the configuration is read again.

A daemon that takes over finds interfaces as they are ``now``, knows the settings of each in the configuration
that was applied ``before``, and reads the configuration that is to hold ``then``. A value of ``now`` stays if
it is the same in ``before`` and ``then``; otherwise the value of ``then`` holds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from epaird.config import wiring
from epaird.config.settings import Configuration, InterfaceSettings, PairSettings
from epaird.config.wiring import Peers
from epaird.names.cloners import CLONERS, EPAIR, half_of
from epaird.plan.diff import is_table

M = TypeVar("M", bound=BaseModel)


def merged(
    now: Configuration, peers: Peers, before: Mapping[str, InterfaceSettings], then: Configuration
) -> Configuration:
    """Return the configuration ``then`` with the changes that were made at runtime.

    ``peers`` are the present peers of the halves."""
    tables: dict[str, dict[str, Any]] = {}
    for kind in (cloner.name for cloner in CLONERS):
        wanted, present = getattr(then, kind), getattr(now, kind) or {}
        if wanted is not None:
            tables[kind] = {
                name: _merged(present.get(name), before.get(name), each) for name, each in wanted.items()
            }
    pairs = tables[EPAIR.name]
    wanted_peers = wiring.peers(then)
    for half, peer in _merged_peers(peers, before, wanted_peers).items():
        if peer != wanted_peers[half]:
            name, side = half_of(half)
            plugged = pairs[name].half(side).model_copy(update={"peer": peer or ""})
            pairs[name] = pairs[name].model_copy(update={side: plugged})
    return then.model_copy(update=tables)


def without(configuration: Configuration, names: Collection[str]) -> Configuration:
    """Return a configuration without the interfaces of these names; halves plugged into them have no peer."""
    tables: dict[str, Any] = {}
    for kind in (cloner.name for cloner in CLONERS):
        table = getattr(configuration, kind)
        if table is not None:
            tables[kind] = {name: each for name, each in table.items() if name not in names}
    pairs = tables[EPAIR.name]
    for half in configuration.halves:
        peer = half.settings.peer
        if half.pair in pairs and peer and half_of(peer)[0] in names:
            unplugged = half.settings.model_copy(update={"peer": ""})
            pairs[half.pair] = pairs[half.pair].model_copy(update={half.side: unplugged})
    return configuration.model_copy(update=tables)


def _merged(now: M | None, before: object, then: M) -> M:
    if now is None or not isinstance(before, type(then)):
        return then
    update: dict[str, Any] = {}
    for name in type(then).model_fields:
        present, applied, wanted = (getattr(each, name) for each in (now, before, then))
        if isinstance(wanted, BaseModel) and is_table(then, name):
            update[name] = _merged(present, applied, wanted)
        else:
            update[name] = present if applied == wanted else wanted
    return then.model_copy(update=update)


def _merged_peers(
    now: Peers, before: Mapping[str, InterfaceSettings], wanted: Peers
) -> dict[str, str | None]:
    """Return the peers that halves are to have; ``wanted`` are those of the new configuration."""
    pairs = ((name, each) for name, each in before.items() if isinstance(each, PairSettings))
    applied = wiring.peers_of_pairs(pairs)
    found: dict[str, str | None] = {}
    for half, peer in wanted.items():
        if half not in found and (half not in now or applied.get(half, "") != peer):
            found[half] = peer
            if peer is not None:
                found[peer] = half
    for half in wanted:
        peer = now.get(half)
        if half not in found:
            found[half] = peer if peer is not None and found.get(peer, half) == half else None
    return {half: found[half] for half in wanted}
