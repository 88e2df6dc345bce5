"""Unregistering: how an interface is removed, in Linux' order (net/core/dev.c).

1. It is closed: nothing is read from it any more, and the frames in flight are delivered.
2. The event ``unregistering`` is published.
3. Everything that still refers to it is changed, and its device is destroyed.
4. Its last references are waited for, however long that takes: a worker that is stopped keeps them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from epaird.control.interfaces.cables import DRAIN_TIMEOUT_S
from epaird.control.interfaces.events import EventBus
from epaird.control.interfaces.ifnet import Ifnet
from epaird.control.machine.host import Host
from epaird.control.tasks import spawn, together
from epaird.ipc.ledger import Table
from epaird.ipc.slots import Slots

log = logging.getLogger(__name__)

CLOSING_S: Final = 1.0
"""Time after the drain timeout at which the devices are destroyed even if a cable is not detached yet."""
SILENT_S: Final = 1.0
"""Time for which references are waited for without a warning."""
REPEAT_S: Final = 10.0
"""Interval between further warnings."""


class Unregistering:
    """Removes interfaces."""

    def __init__(self, host: Host, table: Table, slots: Slots, bus: EventBus) -> None:
        self._host = host
        self._table = table
        self._slots = slots
        self._bus = bus
        self.drain_timeout_s = DRAIN_TIMEOUT_S
        """Time for which the frames in flight may wait for a receiver that takes none."""

    async def unregister(
        self,
        ifnets: Sequence[Ifnet],
        move_references: Callable[[], Awaitable[None]],
        detached: Callable[[], None] = lambda: None,
    ) -> None:
        """Remove the interfaces of one clone.

        ``move_references`` changes everything that refers to them, and ``detached`` is called once no worker
        has any of their cables. All steps are carried out even when one
        fails; then the first failure is raised."""
        async with contextlib.AsyncExitStack() as down:
            for ifnet in ifnets:
                for slot in ifnet.slots:
                    down.callback(self._slots.release, slot)
                if ifnet.line is not None:
                    down.callback(self._slots.release, ifnet.line.slot)
                    down.callback(ifnet.line.close)
            down.callback(detached)
            cables = {ifnet.cable for ifnet in ifnets if ifnet.cable is not None}
            closing = spawn(
                together(*(cable.detach(self.drain_timeout_s) for cable in cables)), "closing", awaited=True
            )
            down.push_async_callback(self._references_gone, closing, ifnets)
            await asyncio.wait((closing,), timeout=self.drain_timeout_s + CLOSING_S)
            for ifnet in ifnets:
                self._bus.publish("unregistering", ifnet.device)
            # The devices are destroyed even where a worker keeps its copies of the descriptors.
            down.push_async_callback(self._host.close_taps, [ifnet.tap for ifnet in ifnets])
            await move_references()

    async def _references_gone(self, closing: asyncio.Task[None], ifnets: Sequence[Ifnet]) -> None:
        pause = SILENT_S
        while not closing.done():
            await asyncio.wait((closing,), timeout=pause)
            if not closing.done():
                for ifnet in ifnets:
                    # The worker, which has not detached it, has one more.
                    usage = 1 + ifnet.refs(self._table)
                    log.warning("waiting for %s to become free. Usage count = %d", ifnet.device, usage)
            pause = REPEAT_S
        await closing
