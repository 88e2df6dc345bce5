"""What was changed at runtime, kept over a new reading of the configuration.

A successor finds interfaces as they are *now*, knows what the configuration *said* when its predecessor
applied it, and reads what it says *then*.  Where it says as before, what is now stays; where it says
otherwise, that holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from epaird.config import wiring as patches
from epaird.config.settings import Configuration, PairSettings
from epaird.config.wiring import Peers
from epaird.plan.diff import InterfaceSettings

M = TypeVar("M", bound=BaseModel)


def kept(
    now: Configuration, peers: Peers, said: Mapping[str, InterfaceSettings], then: Configuration
) -> Configuration:
    """The configuration ``then``, with what was changed at runtime.

    ``peers`` is how halves are plugged now, and ``said`` has the interfaces that there were."""
    pairs = {name: _kept(now.epair.get(name), said.get(name), each) for name, each in then.epair.items()}
    wanted = patches.peers(then)
    for half, peer in _plugged(peers, said, wanted).items():
        if peer != wanted[half]:
            name, side = half[:-1], half[-1]
            plugged = getattr(pairs[name], side).model_copy(update={"peer": peer or ""})
            pairs[name] = pairs[name].model_copy(update={side: plugged})
    lo = None if then.lo is None else {
        name: _kept((now.lo or {}).get(name), said.get(name), each) for name, each in then.lo.items()
    }  # fmt: skip
    return then.model_copy(update={"epair": pairs, "lo": lo})


def _kept(now: M | None, said: object, then: M) -> M:
    if now is None or not isinstance(said, type(then)):
        return then
    update: dict[str, Any] = {}
    for name in type(then).model_fields:
        value, before, after = (getattr(each, name) for each in (now, said, then))
        update[name] = _kept(value, before, after) if isinstance(after, BaseModel) else value
        if not isinstance(after, BaseModel) and before != after:
            update[name] = after
    return then.model_copy(update=update)


def _plugged(now: Peers, said: Mapping[str, InterfaceSettings], wanted: Peers) -> dict[str, str | None]:
    """How halves are to be plugged, ``wanted`` being what the configuration says then."""
    before = patches.wanted((name, each) for name, each in said.items() if isinstance(each, PairSettings))
    found: dict[str, str | None] = {}
    for half, peer in wanted.items():
        if half not in found and (half not in now or before.get(half, "") != peer):
            found[half] = peer
            if peer is not None:
                found[peer] = half
    for half in wanted:
        peer = now.get(half)
        if half not in found:
            found[half] = peer if peer is not None and found.get(peer, half) == half else None
    return {half: found[half] for half in wanted}
