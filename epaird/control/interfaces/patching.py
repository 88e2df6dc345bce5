"""Patching: which half is plugged into which, and who has carrier.

From OpenBSD's pair(4): a half can be plugged into any other half, of the same pair or of another, or into
none; devices, addresses and hardware addresses stay.  Both ends of a cable are forwarded by one worker,
that of the first end's pair.

A half has carrier while the half it is patched to exists, nobody has pulled a plug (``carrier = "off"`` of
either pair) and, unless its pair says ``carrier = "always"``, both are up: veth's rule.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import AsyncIterator, Iterable

from epaird.config.wiring import initial_peers
from epaird.control.interfaces.ifnet import Half, Pair
from epaird.control.interfaces.wires import Wire
from epaird.control.machine.host import Host
from epaird.control.tasks import together
from epaird.ipc.ledger import Table
from epaird.kernel.errors import KernelError

log = logging.getLogger(__name__)


class Patching:
    """The patch panel."""

    def __init__(self, host: Host, table: Table) -> None:
        self._host = host
        self._table = table

    async def plug_in(self, pair: Pair) -> None:
        """Patch the halves of a new pair to each other, or to none when they are to be plugged into others.

        Raises WorkerLost or WorkerRefused."""
        a, b = pair.halves
        if initial_peers(pair.name, pair.settings)[a.device] is not None:
            a.peer, b.peer = b, a
        for half in pair.halves:
            if half.wire is None:
                await self.wire_of(half).attach()

    async def patch(self, a: Half, b: Half) -> None:
        """Patch two halves to each other; each leaves its old peer.

        Raises KernelError, EBUSY, when one of them is going, WorkerLost or WorkerRefused."""
        async with self.held(a, b) as those:
            for half in (a, b):
                if half.going:
                    raise KernelError(errno.EBUSY, f"{half.device} is being destroyed")
            before = {half: half.peer for half in those}
            self._leave(a)
            self._leave(b)
            a.peer, b.peer = b, a
            try:
                await self.rewire(those)
            except BaseException:
                for half, peer in before.items():
                    half.peer = peer
                await self.rewire(those)
                raise

    async def unpatch(self, half: Half) -> None:
        """Patch a half, and its peer, to none.  Raises WorkerLost or WorkerRefused."""
        async with self.held(half) as those:
            self._leave(half)
            await self.rewire(those)

    def abandon(self, pair: Pair) -> None:
        """Patch to none what is patched to a pair that is going."""
        for half in pair.halves:
            peer = half.peer
            self._leave(half)
            if peer is not None:
                self.see_to_carrier(peer)

    async def rewire(self, halves: Iterable[Half]) -> None:
        """Have the workers do as the halves are patched now.

        Raises WorkerLost or WorkerRefused; some may be forwarded by nobody then."""
        wires = {half.wire for half in halves if half.wire is not None}
        ends = {end for wire in wires for end in wire.ends if isinstance(end, Half)} | set(halves)
        for half in ends:
            if not _connected(half):
                self.see_to_carrier(half)
        await together(*(wire.detach(keep=True) for wire in wires))
        try:
            for half in sorted(ends, key=lambda each: each.device):
                if half.wire is None and not half.going:
                    await self.wire_of(half).attach()
        finally:
            await together(*(wire.forget() for wire in wires))
        for half in ends:
            self.see_to_carrier(half)

    def see_to_carrier(self, half: Half) -> None:
        """Give a half carrier, or take it away, as the rule wants it."""
        wanted = _connected(half) and (
            half.pair.settings.carrier == "always" or (half.up and half.peer is not None and half.peer.up)
        )
        if half.going or wanted == half.carrier_on:
            return
        try:
            self._host.set_carrier(half.tap, wanted)
        except KernelError as error:
            if error.errno != errno.EBADFD:  # that of a device that is gone is told by others
                log.warning("%s: carrier: %s", half.device, error)
        else:
            half.carrier_on = wanted

    def turned(self, half: Half) -> None:
        """A half is up now, or down."""
        for each in (half, half.peer):
            if each is not None:
                self.see_to_carrier(each)

    @contextlib.asynccontextmanager
    async def held(self, *halves: Half) -> AsyncIterator[frozenset[Half]]:
        """These halves and their peers, whose peers nobody else changes meanwhile."""
        while True:
            those = frozenset(halves) | {half.peer for half in halves if half.peer is not None}
            async with contextlib.AsyncExitStack() as locks:
                # In one order everywhere, so that no two wait for each other.
                for half in sorted(those, key=lambda each: each.device):
                    await locks.enter_async_context(half.rewiring)
                if those.issuperset(half.peer for half in halves if half.peer is not None):
                    yield those
                    return

    def wire_of(self, half: Half) -> Wire:
        """The wire that a half is to be at an end of, as it is patched now; nobody forwards it yet."""
        peer = half.peer
        if peer is None or not _connected(half):
            return Wire(self._table, (half,), half.pair.workers)
        return Wire(self._table, (half, peer), half.pair.workers)

    def _leave(self, half: Half) -> None:
        if half.peer is not None:
            half.peer.peer = None
            half.peer = None


def _connected(half: Half) -> bool:
    """It is patched, and neither end's plug is pulled."""
    peer = half.peer
    return peer is not None and "off" not in (half.pair.settings.carrier, peer.pair.settings.carrier)
