"""Interfaces as the API answers with them, for the daemon, ``epairctl`` and other programs.

Statistics, events and plans have modules of their own, which few commands of ``epairctl`` have to import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from epaird.client.base import Model
from epaird.client.counters import InterfaceCounters


@dataclass(frozen=True)
class Interface(Model):
    """An interface: a half of a pair, or a loopback."""

    device: str
    """Name of the interface, which it keeps for life: `epair0a`."""
    kind: str
    """Cloner that created it: `epair` or `lo`."""
    pair: str
    """Pair that it is a half of: `epair0`; empty for a loopback."""
    half: str
    """`a` or `b`; empty for a loopback."""
    peer: str
    """Half that it is patched to: `epair0b`; empty for none."""
    origin: str
    """Whether the `configuration` or a request at `runtime` created it."""
    name: str
    """Present name of its device: `eth0`."""
    netns: str
    """Namespace of its device: `red`, `net:[4026532001]` when no name leads to it; empty for the daemon's
    own."""
    mac: str
    """Hardware address: `02:5d:11:22:33:0a`; empty for a loopback."""
    worker: str
    """Number of the worker that forwards it: `0`; with several queues `0,1`."""
    up: bool
    """True while it is up (IFF_UP)."""
    carrier: bool
    """True while it has a carrier (IFF_LOWER_UP)."""
    mtu: int
    """MTU in bytes."""
    refs: int
    """1, and 1 for each frame in flight to it and for each drain list that it is on."""
    held_bytes: int
    """Memory of the frames that wait to be delivered to it, in bytes."""
    oactive: bool
    """True while its output is blocked (IFF_OACTIVE): its peer takes no frames."""
    strayed: str = ""
    """Configured namespace, when its name leads elsewhere now, or nowhere: `red`; otherwise empty."""
    leads_to: str = ""
    """Namespace that `strayed` leads to now: `net:[4026532002]`; empty when it leads to none."""


@dataclass(frozen=True)
class InterfaceDetails(Interface):
    """An interface and its counters."""

    stats: InterfaceCounters = field(default_factory=InterfaceCounters)
    """Counters of the interface."""

    @classmethod
    def arguments(cls, document: Mapping[str, Any]) -> dict[str, Any]:
        return super().arguments(document) | {"stats": InterfaceCounters.parse(document["stats"])}


@dataclass(frozen=True)
class MissingInterface(Model):
    """An interface that is in the configuration and does not exist."""

    device: str
    """Name of the interface, which it keeps for life: `epair0a`."""
    kind: str
    """Cloner that creates it: `epair` or `lo`."""
    pair: str
    """Pair that it is a half of: `epair0`; empty for a loopback."""
    name: str
    """Configured name of its device: `eth0`."""
    netns: str
    """Configured namespace of its device, by name or path; empty for the daemon's own."""
    reason: str
    """Reason why it is missing; empty while it is about to be created again."""


@dataclass(frozen=True)
class CreatedInterface(Model):
    """An interface that was created."""

    name: str
    """Name of the pair or loopback: `epair7`."""
    devices: list[str] = field(default_factory=list)
    """Names of its interfaces, which they keep for life: `epair7a` and `epair7b`; `lo1`."""
