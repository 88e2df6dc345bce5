"""The accounts of cables with several queues, after a process that forwarded one of them has died.

The kernel's counters are those of all queues, so they can be compared only while no queue is read or written.
If one process had all queues, that is so once it has died, and the comparison is made before it is replaced.
Otherwise:

1. The dead process is replaced at once, and its queue is forwarded again. The frames that it had in hand are
   missing in the counters. Their number no longer changes, so there is no hurry.
2. All queues are paused. A worker that has paused answers; it continues by itself after PAUSE_S, whatever
   happens to the control plane.
3. When all have answered, the kernel's counters are compared with those of all queues. The comparison counts
   if each worker confirms that its pause lasted until after that.
4. One of the workers adds the missing frames, because no other process may write to its slots. If it dies
   before that is done, the next comparison finds the rest.

When a queue does not answer in time, the attempt is repeated, until its worker answers or its replacement
does. The frames of all processes that died by then are found together. The same holds when a worker dies
during this, when several die at once, and when a control plane dies in between: the next one compares all
such cables once. A worker of a version that cannot pause is asked until it is replaced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from epaird.control.interfaces.cables import Cable
from epaird.control.interfaces.measuring import measured
from epaird.control.machine.host import Host
from epaird.control.tasks import spawn
from epaird.control.workers.attachment import WorkerLost, WorkerRefused
from epaird.control.workers.link import Link
from epaird.kernel.errors import KernelError

PAUSE_S: Final = 0.05
"""Time in seconds after which a queue that is paused continues by itself."""
AGAIN_S: Final = (0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
"""Pauses in seconds before the first, second, ... attempt."""


class Balancing:
    """Settles the accounts of cables with several queues."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._turn = asyncio.Lock()
        """Held while queues are paused: those of one cable at a time."""

    def begin(self, cable: Cable[Any]) -> None:
        """Settle the account of a cable in the background, unless that is under way, until it is detached."""
        if cable.balancing is None or cable.balancing.done():
            cable.balancing = spawn(self._balance(cable), "settling an account")

    async def _balance(self, cable: Cable[Any]) -> None:
        attempts = 0
        while cable.unsettled:
            await asyncio.sleep(AGAIN_S[min(attempts, len(AGAIN_S) - 1)])
            attempts += 1
            async with self._turn:
                await self._attempt(cable)

    async def _attempt(self, cable: Cable[Any]) -> None:
        """Try once to find the missing frames, and have them counted."""
        deaths = cable.deaths
        try:
            links = await self._paused(cable)
            corrections = cable.corrections(measured(self._host, cable.ends))
            async with asyncio.timeout(PAUSE_S):
                # Each fails where the pause has ended before.
                await _each(links, lambda link, name: link.end_pause(name))
                if any(corrections):
                    # If the answer is late, it still precedes that to the next request to pause.
                    (name, _), *_ = cable.queues
                    await links[name].amend(name, corrections)
        except (KernelError, KeyError, TimeoutError, WorkerLost, WorkerRefused):
            return
        cable.settled(deaths)

    async def _paused(self, cable: Cable[Any]) -> dict[str, Link]:
        """Pause all queues; return the link to the process of each. Raises as an attempt that fails."""
        async with asyncio.timeout(PAUSE_S):
            links = {name: await worker.holder(name) for name, worker in cable.queues}
            await _each(links, lambda link, name: link.pause(name, PAUSE_S))
        return links


async def _each(links: dict[str, Link], request: Callable[[Link, str], Awaitable[None]]) -> None:
    """Send a request for each queue, and wait until all are answered; then raise the first failure."""
    answers = await asyncio.gather(
        *(request(link, name) for name, link in links.items()), return_exceptions=True
    )
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
