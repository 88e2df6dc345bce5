"""Unregistering: how an interface goes, in Linux' order (net/core/dev.c).

It is closed: nothing is read from it any more, and the frames in flight arrive.  Every watcher is told.
What still refers to it is moved elsewhere, its device is withdrawn, and then its last references are
waited for, however long that takes: a worker that is stopped keeps them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from epaird.control.interfaces.events import Bus
from epaird.control.interfaces.ifnet import Ifnet
from epaird.control.interfaces.wires import PATIENCE_S
from epaird.control.machine.host import Host
from epaird.control.tasks import spawn, together
from epaird.ipc.ledger import Slots, Table

log = logging.getLogger(__name__)

CLOSING_S: Final = 1.0
"""How much longer than a worker gives them the frames in flight may take to meet their fate."""
SILENT_S: Final = 1.0
"""How long references are waited for without a word."""
REPEAT_S: Final = 10.0
"""How often it is said that they are waited for."""


class Unregistering:
    """What is needed for it."""

    def __init__(self, host: Host, table: Table, slots: Slots, bus: Bus) -> None:
        self._host = host
        self._table = table
        self._slots = slots
        self._bus = bus
        self.patience_s = PATIENCE_S
        """How long the frames in flight may wait for a receiver that takes none."""

    async def unregister(
        self, ifnets: Sequence[Ifnet], move_references: Callable[[], Awaitable[None]]
    ) -> None:
        """Take interfaces down, those of one pair together.

        ``move_references`` has what refers to them refer to something else.  Whatever goes wrong, in the
        end they are gone; then the first failure is raised."""
        async with contextlib.AsyncExitStack() as down:
            for ifnet in ifnets:
                for slot in ifnet.slots:
                    down.callback(self._slots.release, slot)
            wires = {ifnet.wire for ifnet in ifnets if ifnet.wire is not None}
            closing = spawn(
                together(*(wire.detach(self.patience_s) for wire in wires)), "closing", awaited=True
            )
            down.push_async_callback(self._references_gone, closing, ifnets)
            await asyncio.wait((closing,), timeout=self.patience_s + CLOSING_S)
            for ifnet in ifnets:
                self._bus.tell("unregistering", ifnet.device)
            # The devices go also where a worker keeps its copies of the descriptors.
            down.push_async_callback(self._host.close_taps, [ifnet.tap for ifnet in ifnets])
            await move_references()

    async def _references_gone(self, closing: asyncio.Task[None], ifnets: Sequence[Ifnet]) -> None:
        pause = SILENT_S
        while not closing.done():
            await asyncio.wait((closing,), timeout=pause)
            if not closing.done():
                for ifnet in ifnets:
                    # One more is the worker's, which has not let go of it.
                    usage = 1 + ifnet.refs(self._table)
                    log.warning("waiting for %s to become free. Usage count = %d", ifnet.device, usage)
            pause = REPEAT_S
        await closing
