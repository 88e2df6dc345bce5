"""What a port with an impairment is to the steps around it: see :mod:`epaird.dataplane.impair.line`."""

from __future__ import annotations

from typing import Protocol

from epaird.dataplane.burst import Burst


class Outlet(Protocol):
    """The line of a port."""

    @property
    def spare(self) -> bool:
        """True while one more burst can be kept, although :meth:`transmit` may read none."""

    def transmit(self) -> bool:
        """Read a burst and hold it; as :meth:`epaird.dataplane.pipeline.Pipeline.transmit`."""

    def take(self, burst: Burst) -> None:
        """Hold the accepted frames of a burst, and count them as transmitted."""

    def resume(self) -> None:
        """Release what is due: its receiver takes frames again."""

    def begin(self) -> None:
        """Announce that frames are written to its receiver which it does not hold."""

    def rest(self) -> None:
        """Record that these frames are counted in the receiver's slot."""
