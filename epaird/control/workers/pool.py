"""The pool of workers: grown, shrunk, tuned and renewed while they forward.

When their number changes, cables move between workers as they do when a half is patched: a worker detaches a
cable once no frame of it is in flight, and another attaches it a moment later. In between its frames wait in
the kernel's ring.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from typing import Final, Protocol, TypeVar, overload

from epaird import __version__
from epaird.config.settings import DaemonSettings
from epaird.control.readings import ProcessReading
from epaird.control.tasks import spawn, together
from epaird.control.workers import liveness
from epaird.control.workers.inspection import processes_of, spare_process
from epaird.control.workers.processes import Spares
from epaird.control.workers.worker import Worker, WorkerLost
from epaird.ipc.slots import LedgerFull, Slots

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

RENEW_AGAIN_S: Final = (1.0, 5.0, 30.0)
"""Pauses in seconds before renewals that failed are tried again; the last one repeats."""
CLEARING_S: Final = 5.0
"""Seconds in which a worker that is removed may still be given cables by tasks that chose it before."""
_CHECK_AGAIN_S: Final = 0.02


class Movable(Hashable, Protocol):
    """An interface, or a pair of them, whose cables can move to other workers."""

    @property
    def workers(self) -> tuple[Worker, ...]:
        """The worker of each queue."""

    @property
    def destroying(self) -> bool:
        """True once its destruction has begun."""


M = TypeVar("M", bound=Movable)


class WorkerPool(Sequence[Worker]):
    """The workers of a daemon by number."""

    def __init__(
        self,
        count: int,
        slots: Slots,
        spares: Spares,
        make: Callable[[int], Worker],
        movables: Callable[[], Iterable[M]],
        move: Callable[[M, tuple[Worker, ...]], Awaitable[None]],
    ) -> None:
        """Make ``count`` workers without starting them.

        ``make`` returns a new worker of a number, ``movables`` everything that workers forward, and ``move``
        has other workers forward one of these; ``slots`` are the ledger's, and ``spares`` the source of
        processes."""
        self._slots = slots
        self._spares = spares
        self._make = make
        self._movables = movables
        self._move = move
        self._watchdog: asyncio.Task[None] | None = None
        self._workers = [make(number) for number in range(count)]

    @overload
    def __getitem__(self, index: int) -> Worker: ...

    @overload
    def __getitem__(self, index: slice) -> list[Worker]: ...

    def __getitem__(self, index: int | slice) -> Worker | list[Worker]:
        return self._workers[index]

    def __len__(self) -> int:
        return len(self._workers)

    @property
    def watched(self) -> bool:
        """True while the watchdog runs."""
        return self._watchdog is not None

    def processes(self) -> list[ProcessReading]:
        """Return every worker process as it is now, the spare last."""
        found = [process for worker in self._workers for process in processes_of(worker)]
        spare = self._spares.spare
        return found if spare is None else [*found, spare_process(spare)]

    async def start(self) -> None:
        """Start every worker that has no process. Raises WorkerLost."""
        await together(*(worker.start() for worker in self._workers if not worker.forwards))

    async def stop(self) -> None:
        """End every worker."""
        await together(*(worker.stop() for worker in self._workers))

    def kill(self) -> None:
        """Kill every process, in any thread; none is replaced, as this one is about to end."""
        for worker in tuple(self._workers):
            worker.kill_all()

    async def leave(self) -> None:
        """Leave the process of every worker as an orphan."""
        await together(*(worker.leave() for worker in self._workers))

    @property
    def can_be_found(self) -> bool:
        """True while the next control plane finds every worker by its socket."""
        return not any(worker.hidden() for worker in self._workers)

    async def listen_again(self) -> None:
        """Have the workers that cannot be found listen again. Raises OSError, WorkerLost, WorkerRefused."""
        await together(*(link.listen_again() for worker in self._workers for link in worker.hidden()))

    def keep_spare(self) -> None:
        """Keep a spare process from now on."""
        self._spares.keep()

    def watch(self, hung_s: float) -> None:
        """Kill each process that is silent for ``hung_s`` seconds; 0 disables the watchdog."""
        self.unwatch()
        if hung_s:
            self._watchdog = spawn(liveness.watch(self, hung_s), "the watchdog of the workers")

    def unwatch(self) -> None:
        """End the watchdog."""
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None

    async def grow(self, count: int) -> None:
        """Grow the pool to ``count`` workers; new ones take their share of the cables.

        Raises WorkerLost, and then the pool is unchanged."""
        new = [self._make(number) for number in range(len(self._workers), count)]
        try:
            await together(*(worker.start() for worker in new))
        except BaseException:
            await together(*(self._remove(worker) for worker in new))
            raise
        if new:
            self._workers.extend(new)
            await self.share()

    async def shrink(self, count: int) -> None:
        """Shrink the pool to ``count`` workers, which take the cables of those that are removed."""
        removed = self._workers[count:]
        # From now on a task that chooses a worker chooses one that stays.
        del self._workers[count:]
        deadline = asyncio.get_running_loop().time() + CLEARING_S
        while any(worker.attachments for worker in removed) or self._assigned(removed):
            await self.share()
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(_CHECK_AGAIN_S)
        await together(*(self._remove(worker) for worker in removed))

    def _assigned(self, workers: Sequence[Worker]) -> bool:
        """Return whether a queue is to be forwarded by one of these workers, even if another one has it now:
        one worker has all queues of an impaired pair."""
        assigned = {worker for each in self._movables() if not each.destroying for worker in each.workers}
        return not assigned.isdisjoint(workers)

    async def share(self) -> None:
        """Move cables until each worker forwards as many queues as any other."""
        assigned = {each: _numbers(each) for each in self._movables() if not each.destroying}
        moves = shared(assigned, len(self._workers))
        await together(
            *(
                self._move(each, tuple(self._workers[number] for number in numbers))
                for each, numbers in moves.items()
            )
        )

    async def tune(self, settings: DaemonSettings, before: DaemonSettings | None = None) -> None:
        """Apply settings to all workers, unless they equal those of ``before``, which apply already."""
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

    async def renew(self, *, upgraded: bool) -> None:
        """Replace the processes that a predecessor started and that run other code, one after the other.

        This is the last part of every takeover. Other code is another version; once ``upgraded``, every
        process of the predecessor runs other code, since the version need not differ. A renewal that fails is
        tried again until it succeeds, or until the process ends."""
        for pause in itertools.chain((0.0, *RENEW_AGAIN_S), itertools.repeat(RENEW_AGAIN_S[-1])):
            await asyncio.sleep(pause)
            renewed = [await self._renewed(worker, upgraded) for worker in tuple(self._workers)]
            if all(renewed):
                break
        if upgraded:
            log.info("upgraded to epaird %s", __version__)

    async def _renewed(self, worker: Worker, upgraded: bool) -> bool:
        """Renew a worker once if its process runs other code; return whether it runs this code now."""
        if not worker.adopted:
            return True
        why = ""
        try:
            if not upgraded:
                if not (version := await worker.other_version()):
                    return True
                why = f": its process was of epaird {version}"
            before, slot = worker.slot, self._slots.take()
        except (LedgerFull, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            log.warning("worker %d is not renewed: %s; it is tried again", worker.number, reason)
            return False
        try:
            await worker.renew(slot)
        except WorkerLost as error:
            self._slots.release(slot)
            log.warning("%s; the renewal is tried again", error)
        else:
            self._slots.release(before)
            log.info("worker %d is renewed (pid %d)%s", worker.number, worker.pid, why)
        self.keep_spare()
        return not worker.adopted

    async def _remove(self, worker: Worker) -> None:
        await worker.stop()
        self._slots.release(worker.slot)


def _numbers(movable: Movable) -> tuple[int, ...]:
    return tuple(worker.number for worker in movable.workers)


def _tuned(settings: DaemonSettings) -> tuple[float, ...]:
    return settings.queue_limit, settings.poll_spin_us, settings.orphan_timeout


def shared(assigned: Mapping[K, tuple[int, ...]], count: int) -> dict[K, tuple[int, ...]]:
    """Return the moves after which workers 0 to ``count`` - 1 have equal shares, as few as possible.

    ``assigned`` are the workers of each movable's queues; the result has the same form, without movables that
    stay."""
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
