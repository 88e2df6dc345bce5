"""The soak: operation after operation on a daemon under traffic, until the time or the number is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from tests.scenarios.lab import Lab, until
from tests.soak.footprint import Row, footprint, rows
from tests.soak.invariants import Invariants
from tests.soak.operations.choosing import WARM_UP, calm, operations
from tests.soak.operations.operation import Operation
from tests.soak.site import Site
from tests.soak.traffic import Traffic

ALIKE: Final = 3
"""So many looks at the footprint in a row must be the same, but for the memory."""


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

    def run(self, goes_on: Callable[[int], bool]) -> None:
        """Do operations as long as it ``goes_on``, which is asked with how many were done.  Raises Failed."""
        with Lab() as lab, Site(lab) as site:
            with Traffic(site) as traffic:
                invariants = Invariants(site, traffic)
                chosen = operations(self.seed, site.expected)
                self._do((next(chosen) for _ in range(WARM_UP)), site, invariants)
                self._do(calm(site.expected), site, invariants)
                self.before = self._settled(site)
                while goes_on(len(self.done)):
                    self._do((next(chosen),), site, invariants)
                self._do(calm(site.expected), site, invariants)
                self.after = self._settled(site)
                self.sent = traffic.sent()
            lab.finish()
        if not all(row.flat for row in self.rows):
            raise Failed("not flat: " + ", ".join(row.what for row in self.rows if not row.flat))

    @property
    def rows(self) -> list[Row]:
        """The comparison of the end with the beginning, which is behind the warm-up."""
        return rows(self.before, self.after)

    def _do(self, chosen: Iterable[Operation], site: Site, invariants: Invariants) -> None:
        for operation in chosen:
            began = time.monotonic()
            try:
                operation.act(site)
                operation.expect(site.expected)
                lost = invariants.hold(loses=operation.loses, unsure=operation.unsure)
            except (AssertionError, OSError) as error:
                at = f"operation {len(self.done) + 1}, {operation}"
                raise Failed(f"{at}:\n{error}\nthe daemon said last:\n{site.recent()}") from error
            self.done.append(
                Done(len(self.done) + 1, str(operation), time.monotonic() - began, lost, footprint(site))
            )
            self.tell(self.done[-1])

    def _settled(self, site: Site) -> dict[str, int]:
        """What there is once nothing changes any more."""
        seen: list[dict[str, int]] = []

        def settled() -> bool:
            seen.append(footprint(site))
            last = [_counted(each) for each in seen[-ALIKE:]]
            return len(last) == ALIKE and all(each == last[0] for each in last)

        until(settled, lambda: f"it never settles: {seen[-2:]}")
        return seen[-1]


def _counted(found: dict[str, int]) -> dict[str, int]:
    return {what: value for what, value in found.items() if "memory" not in what}
