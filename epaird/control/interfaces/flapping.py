"""Carrier flaps on a schedule: times at which the halves of a pair have no carrier.

The schedule counts from the moment when it was applied, by CLOCK_MONOTONIC, also for a successor. It is
combined with the pair's ``carrier`` by AND: outside of it, that rule applies.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from epaird.config.settings import PairSettings
from epaird.control.interfaces.ifnet import Pair
from epaird.impairment.units import nanoseconds


@dataclass(frozen=True, slots=True)
class Outage:
    """A part of the time without carrier, in nanoseconds from when the schedule was applied."""

    at: int = 0
    """Beginning."""
    duration: int = 0
    """Duration; 0 is for ever."""
    every: int = 0
    """Interval at which it begins again; 0 is once."""

    def covers(self, elapsed: int) -> bool:
        """Return whether it is under way."""
        if elapsed < self.at:
            return False
        into = (elapsed - self.at) % self.every if self.every else elapsed - self.at
        return not self.duration or into < self.duration

    def next_change(self, elapsed: int) -> int | None:
        """Return the first time after ``elapsed`` at which it begins or ends; None if there is none."""
        if elapsed < self.at:
            return self.at
        if not self.duration:
            return None
        begun = elapsed - (elapsed - self.at) % self.every if self.every else self.at
        times = [begun + self.duration, *([begun + self.every] if self.every else [])]
        return min((each for each in times if each > elapsed), default=None)


def outages_of(settings: PairSettings) -> tuple[Outage, ...]:
    """Return the outages of a pair's schedule."""
    return tuple(
        Outage(*(nanoseconds(text) if text else 0 for text in (each.at, each.for_, each.every)))
        for each in settings.schedule
    )


def is_out(outages: Iterable[Outage], elapsed: int) -> bool:
    """Return whether one of the outages is under way."""
    return any(each.covers(elapsed) for each in outages)


def wait_of(outages: Sequence[Outage], elapsed: int) -> int | None:
    """Return the nanoseconds until the next change; None if there is none."""
    times = [found for each in outages if (found := each.next_change(elapsed)) is not None]
    return min(times) - elapsed if times else None


def has_outage(pair: Pair) -> bool:
    """Return whether the schedule of a pair has its halves without carrier now."""
    return is_out(outages_of(pair.settings), time.monotonic_ns() - pair.scheduled_ns)


class Flapping:
    """Updates the carrier of pairs whenever their schedules change it."""

    def __init__(self, update: Callable[[Pair], None]) -> None:
        """``update`` sets the carrier of a pair's halves by the rule."""
        self._update = update
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def follow(self, pair: Pair) -> None:
        """Follow the schedule of a pair from now on, as its settings have it.

        Update the carrier after that, or a change between the two readings of the clock is missed."""
        self.forget(pair)
        outages = outages_of(pair.settings)
        if not outages or pair.destroying:
            return
        wait = wait_of(outages, time.monotonic_ns() - pair.scheduled_ns)
        if wait is not None:
            loop = asyncio.get_running_loop()
            self._timers[pair.name] = loop.call_later(wait / 1e9, self._changed, pair)

    def forget(self, pair: Pair) -> None:
        """Stop following the schedule of a pair."""
        if (timer := self._timers.pop(pair.name, None)) is not None:
            timer.cancel()

    def _changed(self, pair: Pair) -> None:
        if not pair.destroying:
            self.follow(pair)
            self._update(pair)
