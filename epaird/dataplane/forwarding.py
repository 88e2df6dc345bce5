"""Forwarding: the step after reading a burst, which differs between kinds of cable.

Each port has one forwarding, and ports that exchange frames share it: a cross-connect has two ports, a
reflector or a sink has one, a switch would have many. The steps that all kinds share are in
:mod:`epaird.dataplane.pipeline`.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from epaird.dataplane.burst import Burst
from epaird.dataplane.links import LinkLayer

PortT_contra = TypeVar("PortT_contra", contravariant=True)


class Forwarding(Protocol[PortT_contra]):
    """Delivers bursts. Generic, because a port refers to its forwarding."""

    @property
    def link(self) -> LinkLayer:
        """The type of the frames."""

    def exchange(self, source: PortT_contra) -> bool:
        """Forward what ``source``'s owner has transmitted, and frames that answer it.

        True when the ring is empty and more frames may follow soon, so that the worker should poll before it
        sleeps."""

    def deliver(self, source: PortT_contra, burst: Burst) -> None:
        """Deliver the accepted frames of a burst after those that wait already, and count each."""


class Outlet(Protocol[PortT_contra]):
    """The line of ports with an impairment: see :mod:`epaird.dataplane.impair.line`."""

    @property
    def spare(self) -> bool:
        """True while one more burst can be kept, although :meth:`transmit` may read none."""

    def transmit(self, source: PortT_contra) -> bool:
        """Read a burst and hold it; as :meth:`epaird.dataplane.pipeline.Pipeline.transmit`."""

    def take(self, source: PortT_contra, burst: Burst) -> None:
        """Hold the accepted frames of a burst, and count them as transmitted."""

    def resume(self) -> None:
        """Release what is due: a receiver takes frames again."""

    def begin(self) -> None:
        """Announce that frames are written to its receiver which it does not hold."""

    def rest(self) -> None:
        """Record that these frames are counted in the receiver's slot."""
