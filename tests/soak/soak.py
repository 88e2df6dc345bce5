"""The soak: one operation after another on a daemon under traffic, for a time or a number of operations."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from epaird.client.client import DaemonError
from tests.scenarios.lab import Lab
from tests.soak.footprint import CONTROL_MEMORY, TOLERANCES, Row, footprint, rows
from tests.soak.invariants import Invariants
from tests.soak.observers import Observers
from tests.soak.operations.choosing import WARM_UP, operations, restore
from tests.soak.operations.operation import Operation
from tests.soak.site import Site
from tests.soak.traffic import Traffic
from tests.waiting import until

LONG_LIFE: Final = 40
"""Operations after which a control plane has reached its usual size."""
EQUAL_IN_A_ROW: Final = 3
"""Footprints in a row that must be equal, except for the memory."""


FAILURES: Final = (AssertionError, OSError, subprocess.SubprocessError, DaemonError)
"""The exceptions that report a failure."""


class SoakFailed(Exception):
    """The soak has failed; ``str()`` gives the operation and what is wrong."""


@dataclass(frozen=True, slots=True)
class Step:
    """An operation and its outcome."""

    number: int
    what: str
    seconds: float
    """Duration of the operation and of the check after it."""
    lost: int
    """Frames of the steady traffic that were lost, all of which are counted."""
    kinds: tuple[str, ...]
    """Name of the operation in the counts of the report."""
    footprint: dict[str, int]
    life: int
    """The number of the control plane that ran at the end."""


@dataclass(slots=True)
class Soak:
    """A soak with its seed."""

    seed: int
    on_step: Callable[[Step], None]
    done: list[Step] = field(default_factory=list)
    before: dict[str, int] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)
    sent: int = 0
    """Datagrams of the steady traffic."""
    scrapes: int = 0
    """Scrapes of the metrics page."""
    empty_plans: int = 0
    """How often the plan of the file had nothing to do."""

    def run(self, goes_on: Callable[[int], bool]) -> None:
        """Do operations while ``goes_on``, called with the number done, is true. Raises SoakFailed."""
        with Lab() as lab, Site(lab) as site:
            try:
                with Traffic(site) as traffic, Observers(site) as observers:
                    invariants = Invariants(site, traffic, observers)
                    self._soak(site, invariants, observers, goes_on)
                    self.sent, self.scrapes = traffic.sent(), observers.scrapes
                    self.empty_plans = invariants.empty_plans
                lab.finish()
            except FAILURES as error:
                raise SoakFailed(f"at the end:\n{error}\nend of the log:\n{site.recent()}") from error
        if not all(row.flat for row in self.rows):
            raise SoakFailed("not flat: " + ", ".join(row.what for row in self.rows if not row.flat))

    def _soak(
        self, site: Site, invariants: Invariants, observers: Observers, goes_on: Callable[[int], bool]
    ) -> None:
        chosen = operations(self.seed, site.expected)
        self._do((next(chosen) for _ in range(WARM_UP)), site, invariants)
        self._do(restore(site.expected), site, invariants)
        self.before = self._final_footprint(site, observers)
        while goes_on(len(self.done)):
            self._do((next(chosen),), site, invariants)
        self._do(restore(site.expected), site, invariants)
        self.after = self._final_footprint(site, observers)

    @property
    def rows(self) -> list[Row]:
        """The footprint at the end compared with that after the warm-up."""
        return [*rows(self.before, self.after), *self._longest_life()]

    def _longest_life(self) -> list[Row]:
        """Compare the memory of the longest-lived control plane, if it lived long."""
        lives = Counter(each.life for each in self.done)
        if not lives or lives.most_common(1)[0][1] < LONG_LIFE:
            return []
        life, count = lives.most_common(1)[0]
        memory = [each.footprint[CONTROL_MEMORY] for each in self.done if each.life == life]
        begin, end = (
            round(median(part))
            for part in (memory[LONG_LIFE // 8 : LONG_LIFE // 4], memory[-LONG_LIFE // 8 :])
        )
        what = f"{CONTROL_MEMORY}, over {count} operations"
        return [Row(what, begin, end, TOLERANCES[CONTROL_MEMORY])]

    def _do(self, chosen: Iterable[Operation], site: Site, invariants: Invariants) -> None:
        for operation in chosen:
            began = time.monotonic()
            try:
                operation.act(site)
                operation.expect(site.expected)
                lost = invariants.check(
                    may_lose_frames=operation.may_lose_frames, restarts_uncertain=operation.restarts_uncertain
                )
            except FAILURES as error:
                at = f"operation {len(self.done) + 1}, {operation}"
                raise SoakFailed(f"{at}:\n{error}\nend of the log:\n{site.recent()}") from error
            life = (self.done[-1].life if self.done else 0) + operation.new_control_plane
            seconds = time.monotonic() - began
            number, found = len(self.done) + 1, footprint(site)
            self.done.append(Step(number, str(operation), seconds, lost, operation.kinds, found, life))
            self.on_step(self.done[-1])

    def _final_footprint(self, site: Site, observers: Observers) -> dict[str, int]:
        """Return the footprint once it no longer changes."""
        observers.pause()
        seen: list[dict[str, int]] = []

        def unchanged() -> bool:
            seen.append(footprint(site))
            last = [_counted(each) for each in seen[-EQUAL_IN_A_ROW:]]
            return len(last) == EQUAL_IN_A_ROW and all(each == last[0] for each in last)

        until(unchanged, lambda: f"it keeps changing: {seen[-2:]}")
        observers.go()
        return seen[-1]


def _counted(found: dict[str, int]) -> dict[str, int]:
    return {what: value for what, value in found.items() if "memory" not in what}
