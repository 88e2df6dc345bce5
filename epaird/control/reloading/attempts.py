"""Times of the next attempts to create missing interfaces; the pauses keep two programs from a busy fight.

The first attempt is made FIRST_S after something was found to be missing, or at once when it could not be
created until now. Each further attempt within LONGEST_S of the last one is made after twice the pause, up to
LONGEST_S.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

FIRST_S: Final = 1.0
"""Pause in seconds before the first attempt."""
LONGEST_S: Final = 60.0
"""Longest pause in seconds; the pauses of something that has existed for so long start with FIRST_S again."""


@dataclass(slots=True)
class _Attempt:
    """The attempts at one name."""

    pause: float = FIRST_S
    """Pause before the next attempt."""
    last: float = -math.inf
    """Time of the last attempt."""
    due: float | None = None
    """Time of the next attempt if it is missing then; None while it exists or cannot be created."""
    waited: bool = False
    """True once it was found that it cannot be created yet."""


class Attempts:
    """The attempts at everything that is missing. Every method takes the time in seconds."""

    def __init__(self) -> None:
        self._by_name: dict[str, _Attempt] = {}

    def due(self, now: float, missing: Mapping[str, bool]) -> set[str]:
        """Return the names to try now, and count them as tried.

        ``missing`` has every name that is missing, and whether it can be created as far as is known."""
        for name, attempt in tuple(self._by_name.items()):
            if name not in missing:
                attempt.due, attempt.waited = None, False
                if now - attempt.last >= LONGEST_S:
                    del self._by_name[name]
        return {name for name, possible in missing.items() if self._is_due(name, now, possible)}

    def pause(self, name: str) -> float:
        """Return the pause in seconds until the next attempt, after one that failed."""
        attempt = self._by_name.get(name)
        return attempt.pause if attempt is not None else FIRST_S

    def next(self) -> float:
        """Return the time of the next attempt; infinite if none is due."""
        return min((each.due for each in self._by_name.values() if each.due is not None), default=math.inf)

    def _is_due(self, name: str, now: float, possible: bool) -> bool:
        attempt = self._by_name.setdefault(name, _Attempt())
        if not possible:
            attempt.due, attempt.waited = None, True
            return False
        if attempt.due is None:
            attempt.due = max(now if attempt.waited else now + attempt.pause, attempt.last + attempt.pause)
            attempt.waited = False
        if attempt.due > now:
            return False
        attempt.pause = min(2 * attempt.pause, LONGEST_S)
        attempt.last, attempt.due = now, now + attempt.pause
        return True
