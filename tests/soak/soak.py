"""The soak: operation after operation on a daemon under traffic, until the time or the number is up."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from tests.scenarios.lab import Lab
from tests.soak.footprint import CONTROL_MEMORY, TOLERANCES, Row, footprint, rows
from tests.soak.invariants import Invariants
from tests.soak.observers import Observers
from tests.soak.operations.choosing import WARM_UP, calm, operations
from tests.soak.operations.operation import Operation
from tests.soak.site import Site
from tests.soak.traffic import Traffic
from tests.waiting import until

LONG: Final = 40
"""Operations; in so many a control plane has come to its usual size."""
ALIKE: Final = 3
"""So many looks at the footprint in a row must be the same, but for the memory."""


WRONG: Final = (AssertionError, OSError, subprocess.SubprocessError)
"""What is raised when something is not as it should be."""


class Failed(Exception):
    """It is not as it should be; ``str()`` says what was done, and what is wrong."""


@dataclass(frozen=True, slots=True)
class Done:
    """An operation, and what came of it."""

    number: int
    what: str
    seconds: float
    """For it, and for looking at everything after it."""
    lost: int
    """Frames of pairs that it was not about; all of them are counted as lost."""
    footprint: dict[str, int]
    life: int
    """Which control plane it was, or has become."""


@dataclass(slots=True)
class Soak:
    """One, with its seed."""

    seed: int
    tell: Callable[[Done], None]
    done: list[Done] = field(default_factory=list)
    before: dict[str, int] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)
    sent: int = 0
    """Datagrams that have crossed pairs nothing was done to."""
    looks: int = 0
    """At the metrics page."""

    def run(self, goes_on: Callable[[int], bool]) -> None:
        """Do operations as long as it ``goes_on``, which is asked with how many were done.  Raises Failed."""
        with Lab() as lab, Site(lab) as site:
            try:
                with Traffic(site) as traffic, Observers(site) as observers:
                    self._soak(site, Invariants(site, traffic, observers), observers, goes_on)
                    self.sent, self.looks = traffic.sent(), observers.looks
                lab.finish()
            except WRONG as error:
                raise Failed(f"at rest:\n{error}\nthe daemon said last:\n{site.recent()}") from error
        if not all(row.flat for row in self.rows):
            raise Failed("not flat: " + ", ".join(row.what for row in self.rows if not row.flat))

    def _soak(
        self, site: Site, invariants: Invariants, observers: Observers, goes_on: Callable[[int], bool]
    ) -> None:
        chosen = operations(self.seed, site.expected)
        self._do((next(chosen) for _ in range(WARM_UP)), site, invariants)
        self._do(calm(site.expected), site, invariants)
        self.before = self._settled(site, observers)
        while goes_on(len(self.done)):
            self._do((next(chosen),), site, invariants)
        self._do(calm(site.expected), site, invariants)
        self.after = self._settled(site, observers)

    @property
    def rows(self) -> list[Row]:
        """The comparison of the end with the beginning, which is behind the warm-up."""
        return [*rows(self.before, self.after), *self._longest_life()]

    def _longest_life(self) -> list[Row]:
        """The memory of the control plane that has lived longest, if that was long."""
        lives = Counter(each.life for each in self.done)
        if not lives or lives.most_common(1)[0][1] < LONG:
            return []
        life, count = lives.most_common(1)[0]
        memory = [each.footprint[CONTROL_MEMORY] for each in self.done if each.life == life]
        begin, end = (round(median(part)) for part in (memory[LONG // 8 : LONG // 4], memory[-LONG // 8 :]))
        what = f"{CONTROL_MEMORY}, over {count} operations"
        return [Row(what, begin, end, TOLERANCES[CONTROL_MEMORY])]

    def _do(self, chosen: Iterable[Operation], site: Site, invariants: Invariants) -> None:
        for operation in chosen:
            began = time.monotonic()
            try:
                operation.act(site)
                operation.expect(site.expected)
                lost = invariants.hold(
                    may_lose_frames=operation.may_lose_frames, restarts_uncertain=operation.restarts_uncertain
                )
            except WRONG as error:
                at = f"operation {len(self.done) + 1}, {operation}"
                raise Failed(f"{at}:\n{error}\nthe daemon said last:\n{site.recent()}") from error
            life = (self.done[-1].life if self.done else 0) + operation.new_control_plane
            seconds = time.monotonic() - began
            self.done.append(Done(len(self.done) + 1, str(operation), seconds, lost, footprint(site), life))
            self.tell(self.done[-1])

    def _settled(self, site: Site, observers: Observers) -> dict[str, int]:
        """What there is once nothing changes any more."""
        observers.pause()
        seen: list[dict[str, int]] = []

        def settled() -> bool:
            seen.append(footprint(site))
            last = [_counted(each) for each in seen[-ALIKE:]]
            return len(last) == ALIKE and all(each == last[0] for each in last)

        until(settled, lambda: f"it never settles: {seen[-2:]}")
        observers.go()
        return seen[-1]


def _counted(found: dict[str, int]) -> dict[str, int]:
    return {what: value for what, value in found.items() if "memory" not in what}
