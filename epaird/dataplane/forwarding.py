"""What becomes of the frames that are read from a port: the part that differs between kinds of cable.

Each port has one forwarding, and ports that exchange frames share it: a cross-connect has two, a reflector
or a sink has one, a switch would have many. What all kinds have in common is in
:mod:`epaird.dataplane.pipeline`.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from epaird.dataplane.burst import Burst
from epaird.dataplane.links import Link

PortT_contra = TypeVar("PortT_contra", contravariant=True)


class Forwarding(Protocol[PortT_contra]):
    """Delivers bursts. Generic, because a port refers to its forwarding."""

    @property
    def link(self) -> Link:
        """What the frames are."""

    def exchange(self, source: PortT_contra) -> bool:
        """Forward what ``source``'s owner has transmitted, and frames that answer it.

        True when more frames are so likely to follow that the worker should look again before it sleeps."""

    def deliver(self, source: PortT_contra, burst: Burst) -> None:
        """Deliver the accepted frames of a burst behind those that wait, and account for each."""
