"""A token bucket: the one rule by which messages and work are limited. Pure; the time is a parameter."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """How often something may happen."""

    burst: int
    """Times in a row without a pause."""
    per_s: float
    """Times a second in the long run."""


class TokenBucket:
    """Tokens that are taken one by one and come back at a rate."""

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, rate: Rate, now: float) -> None:
        """Begin full; ``now`` is in seconds of a clock that is never set."""
        self._rate = rate
        self._tokens = float(rate.burst)
        self._at = now

    def change(self, rate: Rate) -> None:
        """Apply another rate; what its burst is greater by can be taken at once."""
        self._tokens = min(rate.burst, self._tokens + max(0, rate.burst - self._rate.burst))
        self._rate = rate

    def take(self, now: float) -> bool:
        """Take a token; return False when there is none."""
        self._fill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def wait(self, now: float) -> float:
        """Return the seconds until there is a token."""
        self._fill(now)
        return max(0.0, (1 - self._tokens) / self._rate.per_s)

    def full(self, now: float) -> bool:
        """Return whether it is as at its beginning."""
        self._fill(now)
        return self._tokens >= self._rate.burst

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._tokens = min(self._rate.burst, self._tokens + (now - self._at) * self._rate.per_s)
            self._at = now
