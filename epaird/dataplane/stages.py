"""Stages: steps between reading a burst and delivering it, such as impairment or a rate."""

from __future__ import annotations

from typing import Protocol

from epaird.dataplane.burst import Burst


class Stage(Protocol):
    """One step for the frames that a port's owner transmits.

    A port has a tuple of stages, and each processes what the one before it accepted. Stages read no clock:
    time is a parameter, CLOCK_MONOTONIC in nanoseconds."""

    def process(self, burst: Burst, now_ns: int) -> None:
        """Decide about the frames of a burst that have no verdict yet.

        A frame that is given a verdict (``burst.verdicts``) is not delivered; the stage accounts for it. A
        stage that holds frames copies them: the arena is overwritten by the next read."""

    def wake(self, now_ns: int) -> None:
        """Continue with frames that were held until now."""
