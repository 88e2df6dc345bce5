"""Patching: the connections between halves, and their carrier.

As with OpenBSD's pair(4), a half can be patched to any other half, of the same pair or of another, or to
none; devices, addresses and hardware addresses stay. Both ends of a cable are forwarded by the same workers,
those of the first end's pair.

A half that takes no offloads (``offload = false``) receives frames as on a wire from whatever half it is
patched to. The other half's device has no offloads either for as long, so that its kernel segments
super-frames and completes checksums. The workers do the same with frames that were transmitted before.

A half has carrier while it is patched to a half, neither pair has ``carrier = "off"`` or an outage of its
``schedule`` and, unless its own
pair has ``carrier = "always"``, both halves are up: veth's rule.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import AsyncIterator, Callable, Iterable

from epaird.config.wiring import initial_peers
from epaird.control.interfaces.cables import Cable
from epaird.control.interfaces.flapping import has_outage
from epaird.control.interfaces.ifnet import Half, Pair
from epaird.control.interfaces.measuring import settle_detached
from epaird.control.machine.host import Host
from epaird.control.tasks import together
from epaird.ipc.ledger import Table
from epaird.ipc.messages import CableKind
from epaird.kernel.errors import KernelError

log = logging.getLogger(__name__)


class Patching:
    """The patch panel."""

    def __init__(self, host: Host, table: Table, halves: Callable[[], Iterable[Half]]) -> None:
        """``halves`` returns the halves of all pairs."""
        self.halves = halves
        self._host = host
        self._table = table

    async def connect_new(self, pair: Pair) -> None:
        """Patch the halves of a new pair to each other, or to none where they are to be patched elsewhere.

        Raises WorkerLost or WorkerRefused."""
        a, b = pair.halves
        if initial_peers(pair.name, pair.settings)[a.device] is not None:
            a.peer, b.peer = b, a
        for half in pair.halves:
            if half.cable is None:
                await self.cable_of(half).attach()

    async def patch(self, a: Half, b: Half) -> None:
        """Patch two halves to each other; each is disconnected from its old peer.

        Raises KernelError, EBUSY when one of them is being destroyed, WorkerLost or WorkerRefused."""
        async with self.locked(a, b) as halves:
            for half in (a, b):
                if half.destroying:
                    raise KernelError(errno.EBUSY, f"{half.device} is being destroyed")
            before = {half: half.peer for half in halves}
            _disconnect(a)
            _disconnect(b)
            a.peer, b.peer = b, a
            try:
                await self.rewire(halves)
            except BaseException:
                for half, peer in before.items():
                    half.peer = peer
                await self.rewire(halves)
                raise

    async def unpatch(self, half: Half) -> None:
        """Patch a half and its peer to none. Raises WorkerLost or WorkerRefused."""
        async with self.locked(half) as halves:
            _disconnect(half)
            await self.rewire(halves)

    def abandon(self, pair: Pair) -> None:
        """Patch to none the peers of a pair that is being destroyed."""
        for half in pair.halves:
            peer = half.peer
            _disconnect(half)
            if peer is not None:
                self.update_carrier(peer)

    async def rewire_pair(self, pair: Pair) -> None:
        """Apply the pair's present workers and settings to its cables.

        Raises WorkerLost or WorkerRefused."""
        async with self.locked(*pair.halves) as halves:
            await self.rewire(halves)

    async def rewire(self, halves: Iterable[Half]) -> None:
        """Have the workers forward these halves as they are patched now.

        Raises WorkerLost or WorkerRefused; then no worker may forward some of them."""
        cables = {half.cable for half in halves if half.cable is not None}
        ends = {end for cable in cables for end in cable.ends} | set(halves)
        for half in ends:
            if not _connected(half):
                self.update_carrier(half)
        await together(*(cable.detach(keep=True) for cable in cables))
        settle_detached(self._host, cables)
        for half in ends:
            self.update_offload(half)
            if half.line is not None:
                # Before any of them is forwarded again: nothing else may write to the slots of receivers.
                connected = half.peer is not None and _connected(half)
                half.line.lead_to(half.peer.slots[0] if connected and half.peer is not None else None)
        try:
            for half in sorted(ends, key=lambda each: each.device):
                if half.cable is None and not half.destroying:
                    await self.cable_of(half).attach()
        finally:
            await together(*(cable.forget() for cable in cables))
        for half in ends:
            self.update_carrier(half)

    def update_carrier(self, half: Half) -> None:
        """Set a half's carrier by the rule."""
        wanted = (
            _connected(half)
            and not _scheduled_off(half)
            and (
                half.pair.settings.carrier == "always" or (half.up and half.peer is not None and half.peer.up)
            )
        )
        if half.destroying or wanted == half.carrier_on:
            return
        try:
            self._host.set_carrier(half.tap, wanted)
        except KernelError as error:
            if error.errno != errno.EBADFD:  # the device is gone, which is reported elsewhere
                log.warning("%s: carrier: %s", half.device, error)
        else:
            half.carrier_on = wanted

    def update_pair(self, pair: Pair) -> None:
        """Set the carrier of a pair's halves and of their peers by the rule."""
        for half in pair.halves:
            self.up_changed(half)

    def update_offload(self, half: Half) -> None:
        """Set the offloads of a half's device: those of the kernel if both ends of its cable take them."""
        wanted = half.offload and (half.peer is None or half.peer.offload)
        if half.destroying or wanted == half.offload_on:
            return
        try:
            half.tap = self._host.set_offload(half.tap, wanted)
        except KernelError as error:
            if error.errno != errno.EBADFD:  # the device is gone, which is reported elsewhere
                log.warning("%s: offloads: %s", half.device, error)
        else:
            half.offload_on = wanted

    def end_lines(self, pair: Pair) -> None:
        """Drop what is held for the halves of a pair that is being destroyed, or comes from them.

        No worker has any of their cables."""
        slots = {slot for half in pair.halves for slot in half.slots}
        for half in self.halves():
            if half.line is not None and (half.pair is pair or half.line.leads_to(slots)):
                half.line.lead_to(None)

    def up_changed(self, half: Half) -> None:
        """Update the carrier of a half that was set up or down, and that of its peer."""
        for each in (half, half.peer):
            if each is not None:
                self.update_carrier(each)

    @contextlib.asynccontextmanager
    async def locked(self, *halves: Half) -> AsyncIterator[frozenset[Half]]:
        """Lock these halves and their present peers, which are returned, against other changes of peers."""
        while True:
            wanted = frozenset(halves) | {half.peer for half in halves if half.peer is not None}
            async with contextlib.AsyncExitStack() as locks:
                # Always in the same order, to prevent a deadlock.
                for half in sorted(wanted, key=lambda each: each.device):
                    await locks.enter_async_context(half.rewiring)
                if wanted.issuperset(half.peer for half in halves if half.peer is not None):
                    yield wanted
                    return

    def cable_of(self, half: Half) -> Cable[Half]:
        """Return the cable that a half is to be an end of as it is patched now, not attached yet."""
        pair, peer = half.pair, half.peer
        workers = pair.workers
        if peer is not None and (half.line is not None or peer.line is not None):
            workers = workers[:1] * len(workers)  # a line has one ring, which one worker has
        if peer is None or not _connected(half):
            return Cable(self._table, half.device, CableKind.UNPLUGGED, (half,), pair.workers)
        own = peer.pair is pair
        return Cable(
            self._table,
            pair.name if own else f"{half.device}-{peer.device}",
            CableKind.CABLE,
            (half, peer),
            workers,
            coalesce=_coalesces(half) and _coalesces(peer),
        )


def _disconnect(half: Half) -> None:
    if half.peer is not None:
        half.peer.peer = None
        half.peer = None


def _connected(half: Half) -> bool:
    """Return whether a half has a peer and the carrier of neither pair is off."""
    peer = half.peer
    return peer is not None and "off" not in (half.pair.settings.carrier, peer.pair.settings.carrier)


def _scheduled_off(half: Half) -> bool:
    """Return whether the schedule of either pair has no carrier now."""
    pairs = [half.pair, *([half.peer.pair] if half.peer is not None else [])]
    return any(has_outage(pair) for pair in pairs if pair.settings.schedule)


def _coalesces(half: Half) -> bool:
    return half.pair.settings.coalesce and half.tap.takes_datagrams
