"""The renewal of a worker: its cables move from one process to another without losing a frame.

Each cable is detached by the old process, which keeps its descriptors, attached by the new one, and then
dropped by the old one. In between its frames wait in the kernel's ring. So at any time one process at most
reads a cable, and a control plane that is killed leaves each descriptor in at least one process.

The queues of an impaired pair move together, because one process at a time may have their line.

A request for a cable that is moving waits until it has moved. A cable that is detached while it moves stays
among the attachments until then, so that it arrives and is detached by the new process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Final

from epaird.control.workers.attachment import Attachment, WorkerLost, WorkerRefused
from epaird.control.workers.link import Link

log = logging.getLogger(__name__)

MOVING_S: Final = 5.0
"""Seconds that a cable which moves waits for a receiver that takes nothing."""


class Renewal:
    """Two processes of one worker and the cables that move between them."""

    def __init__(
        self, name: str, old: Link, new: Link, slot: int, attachments: dict[str, Attachment]
    ) -> None:
        """``name`` is the worker's, ``slot`` the new process's in the ledger; ``attachments`` are the
        worker's, which may change during the renewal."""
        self.old = old
        self.new = new
        self.slot = slot
        self.moves: dict[str, asyncio.Future[None]] = {}
        """Cables that the new process has, or that are on their way to it; done when they have arrived."""
        self._name = name
        self._attachments = attachments

    async def move_all(self) -> None:
        """Move every cable. Raises WorkerLost when one of the processes ends, or the worker is stopped."""
        while waiting := [cable for cable in self._attachments if cable not in self.moves]:
            for cable in waiting:
                self.moves[cable] = asyncio.get_running_loop().create_future()
            keeping = {cable: self.old.keep(cable, MOVING_S) for cable in waiting}
            await asyncio.gather(*(self._move(cable, keeping) for cable in waiting))
        if not (self.old.running and self.new.running):
            raise WorkerLost(f"{self._name} died while it was renewed")

    async def end_old(self, patience_s: float) -> None:
        """End the old process once it has answered its requests; kill it after ``patience_s`` seconds more.

        It may still detach a cable that was on its way out when the renewal began."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MOVING_S):
                    await self.old.drained()
        finally:
            self.old.abandon()
            self.old.request_end()
        await self.old.wait(patience_s)

    def moved(self, cable: str) -> bool:
        """Return whether the new process has a cable, or will when it arrives."""
        return cable in self.moves

    def add(self, cable: str) -> None:
        """Record that a cable is attached to the new process directly."""
        self.moves[cable] = arrived = asyncio.get_running_loop().create_future()
        arrived.set_result(None)

    def discard(self, cable: str) -> None:
        """Forget a cable that the new process is about to detach."""
        self.moves.pop(cable, None)

    def arrival(self, cable: str) -> asyncio.Future[None] | None:
        """Return what to wait for before a request about a cable; None while it does not move."""
        arrival = self.moves.get(cable)
        return None if arrival is None or arrival.done() else arrival

    async def _move(self, cable: str, keeping: Mapping[str, asyncio.Future[None]]) -> None:
        """Move a cable, once the old process has detached it and those that have a line in common with it."""
        arrived, lines = self.moves[cable], self._lines(cable)
        try:
            await keeping[cable]
            if siblings := [answer for each, answer in keeping.items() if lines & self._lines(each)]:
                await asyncio.wait(siblings)
            if cable in self._attachments:
                await self.new.attach(self._attachments[cable])
            await self.old.detach(cable, MOVING_S)
        except WorkerLost:
            pass  # of either process: move_all() finds out, and the worker replaces both
        except WorkerRefused as error:
            self._attachments.pop(cable, None)
            log.error("%s: %s is not forwarded any more: %s", self._name, cable, error)
        finally:
            arrived.set_result(None)

    def _lines(self, cable: str) -> set[int]:
        """Return the slots of the lines of a cable."""
        known = self._attachments.get(cable)
        return set(known.spec.line_slots) if known is not None else set()
