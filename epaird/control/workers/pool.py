"""The number of workers, changed while they forward.

A cable goes from one worker to another as it does when a half is patched: let go by the one once no frame
of it is in flight, and the other's a moment later.  Meanwhile its frames wait in the kernel's ring.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Final, TypeVar

from epaird.config.settings import DaemonSettings
from epaird.control.interfaces.ifnet import Clone
from epaird.control.interfaces.registry import Registry
from epaird.control.tasks import together
from epaird.control.workers.worker import Worker
from epaird.ipc.ledger import Slots

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

CLEARING_S: Final = 5.0
"""How long a worker that goes may still be given cables by those who chose it before."""
_LOOK_AGAIN_S: Final = 0.02


class Workforce:
    """The workers of a daemon."""

    def __init__(
        self,
        workers: list[Worker],
        registry: Registry,
        slots: Slots,
        make: Callable[[int], Worker],
    ) -> None:
        """``workers`` is everybody's list of them; ``make`` makes the one of a number."""
        self._workers = workers
        self._registry = registry
        self._slots = slots
        self._make = make

    def __len__(self) -> int:
        return len(self._workers)

    async def grow(self, count: int) -> None:
        """Have so many, if there are fewer; the new ones take their share of the cables.

        Raises WorkerLost, and then there are as many as before."""
        new = [self._make(number) for number in range(len(self._workers), count)]
        try:
            await together(*(worker.start() for worker in new))
        except BaseException:
            await together(*(self._end(worker) for worker in new))
            raise
        if new:
            self._workers.extend(new)
            await self.share()

    async def share(self) -> None:
        """Have each worker forward as much as any other."""
        await self._move(shared({each: self._of(each) for each in self._those()}, len(self._workers)))

    async def shrink(self, count: int) -> None:
        """Have so many, if there are more; those that stay take the cables of those that go."""
        going = self._workers[count:]
        # Whoever chooses a worker from now on chooses one that stays.
        del self._workers[count:]
        deadline = asyncio.get_running_loop().time() + CLEARING_S
        while any(worker.attachments for worker in going):
            await self._move(shared({each: self._of(each) for each in self._those()}, count))
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(_LOOK_AGAIN_S)
        await together(*(self._end(worker) for worker in going))

    async def tune(self, settings: DaemonSettings, before: DaemonSettings | None = None) -> None:
        """Have all of them work by these settings, unless they do already, by those of ``before``."""
        if before is not None and _tuned(before) == _tuned(settings):
            return
        await together(
            *(
                worker.tune(
                    queue_limit=settings.queue_limit,
                    poll_spin_us=settings.poll_spin_us,
                    orphan_timeout=settings.orphan_timeout,
                )
                for worker in self._workers
            )
        )

    async def _end(self, worker: Worker) -> None:
        await worker.stop()
        self._slots.release(worker.slot)

    def _those(self) -> Sequence[Clone]:
        return [clone for clone in self._registry if not clone.going]

    def _of(self, clone: Clone) -> tuple[int, ...]:
        return tuple(worker.number for worker in clone.workers)

    async def _move(self, moved: Mapping[Clone, tuple[int, ...]]) -> None:
        await together(
            *(
                self._registry.reassign(clone, tuple(self._workers[number] for number in numbers))
                for clone, numbers in moved.items()
            )
        )


def _tuned(settings: DaemonSettings) -> tuple[float, ...]:
    return settings.queue_limit, settings.poll_spin_us, settings.orphan_timeout


def shared(assigned: Mapping[K, tuple[int, ...]], count: int) -> dict[K, tuple[int, ...]]:
    """What is to be moved so that workers 0 to ``count`` - 1 have all of it, as much as any other.

    ``assigned`` are the workers of each one's queues.  As little is moved as can be."""
    loads = [0] * count
    wanted = {each: list(numbers) for each, numbers in assigned.items()}
    homeless: list[tuple[K, int]] = []
    held: list[list[tuple[K, int]]] = [[] for _ in range(count)]
    for each, numbers in wanted.items():
        for queue, number in enumerate(numbers):
            if number < count:
                loads[number] += 1
                held[number].append((each, queue))
            else:
                homeless.append((each, queue))
    for each, queue in homeless:
        least = loads.index(min(loads))
        wanted[each][queue] = least
        loads[least] += 1
        held[least].append((each, queue))
    while max(loads) - min(loads) > 1:
        most, least = loads.index(max(loads)), loads.index(min(loads))
        each, queue = held[most].pop()
        wanted[each][queue] = least
        held[least].append((each, queue))
        loads[most] -= 1
        loads[least] += 1
    return {each: tuple(numbers) for each, numbers in wanted.items() if tuple(numbers) != assigned[each]}
