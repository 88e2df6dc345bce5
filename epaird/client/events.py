"""Events as the API answers with them."""

from __future__ import annotations

from dataclasses import dataclass

from epaird.client.base import Model


@dataclass(frozen=True)
class Event(Model):
    """Something that happened to an interface."""

    time: float
    """Seconds since the epoch."""
    what: str
    """`created`, `up`, `down`, `carrier`, `nocarrier`, `renamed`, `moved`, `strayed` (the name of its
    namespace leads elsewhere now), `returned` (it leads to it again), `unregistering`, `destroyed`,
    `impaired` (another impairment applies to what it transmits),
    `overflow` (its output is blocked), `drained` (it no longer is), or `lost`: events were dropped because
    this reader was too slow."""
    interface: str
    """Name of the interface: `epair0a`; empty for `lost`."""
    detail: str = ""
    """More about it, for people: `eth0 -> eth1`; for `lost`, the number of events dropped."""
