"""Pairs and loopbacks as the worker pool moves them from worker to worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from epaird.control.interfaces.ifnet import Loopback, Pair
from epaird.control.interfaces.registry import Interfaces
from epaird.control.workers.pool import Movable
from epaird.control.workers.worker import Worker


def movables(interfaces: Interfaces) -> Iterator[Movable]:
    """Yield every pair and loopback."""
    for pair in interfaces.pairs:
        yield _MovablePair(pair, interfaces)
    for loopback in interfaces.loopbacks:
        yield _MovableLoopback(loopback, interfaces)


@dataclass(frozen=True, slots=True, eq=False)
class _MovablePair:
    pair: Pair
    interfaces: Interfaces

    @property
    def workers(self) -> tuple[Worker, ...]:
        return self.pair.workers

    @property
    def destroying(self) -> bool:
        return self.pair.going

    async def move(self, workers: tuple[Worker, ...]) -> None:
        self.pair.workers = workers
        patching = self.interfaces.pairs.patching
        async with patching.held(*self.pair.halves) as halves:
            await patching.rewire(halves)


@dataclass(frozen=True, slots=True, eq=False)
class _MovableLoopback:
    loopback: Loopback
    interfaces: Interfaces

    @property
    def workers(self) -> tuple[Worker, ...]:
        return (self.loopback.worker,)

    @property
    def destroying(self) -> bool:
        return self.loopback.going

    async def move(self, workers: tuple[Worker, ...]) -> None:
        (self.loopback.worker,) = workers
        await self.interfaces.loopbacks.rewire(self.loopback)
