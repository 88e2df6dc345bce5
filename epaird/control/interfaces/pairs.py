"""Pairs: the kind ``epair``.

A pair is two TAP devices, its halves, which are patched to each other when they are created.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Mapping, Sequence

from epaird.config.settings import Configuration, PairSettings
from epaird.control.interfaces import pairsettings
from epaird.control.interfaces.cables import Cable
from epaird.control.interfaces.flapping import Flapping
from epaird.control.interfaces.ifnet import Half, Ifnet, Origin, Pair, link_settings
from epaird.control.interfaces.impairments import Impairments
from epaird.control.interfaces.inplace import warn_of_missing
from epaird.control.interfaces.kind import NO_KEYS, Environment
from epaird.control.interfaces.lifecycle import Lifecycle
from epaird.control.interfaces.pairaddresses import PairAddresses
from epaird.control.interfaces.pairchanges import PairChange
from epaird.control.interfaces.patching import Patching
from epaird.control.interfaces.saved import SavedDevice, SavedHalf, SavedLine, SavedPair
from epaird.control.machine.host import Place
from epaird.control.operations import Refused
from epaird.control.tasks import together
from epaird.kernel.errors import KernelError
from epaird.kernel.tun import Tap
from epaird.names import cloners as names
from epaird.names.cloners import EPAIR
from epaird.names.macpool import MacPool


class Pairs(Lifecycle[Pair, Half, PairSettings]):
    """All pairs, by name."""

    cloner = EPAIR
    noun = Pair.noun

    def __init__(self, environment: Environment, macs: MacPool) -> None:
        super().__init__(environment)
        self.patching = Patching(environment.host, environment.table, lambda: self.ifnets)
        self._addresses = PairAddresses(macs, environment.host)
        self.flapping = Flapping(self.patching.update_pair)
        self.impairments = Impairments(
            environment.host, environment.table, environment.slots, self.patching, environment.bus
        )

    def half(self, device: str) -> Half | None:
        """Return the half of this name."""
        pair = self._clones.get(device[:-1])
        return next((half for half in pair.halves if half.device == device), None) if pair else None

    def changing(
        self, clone: Pair, after: PairSettings, requested: Mapping[Ifnet, Collection[str]] = NO_KEYS
    ) -> PairChange:
        """Return the change of a pair to other settings."""
        return PairChange(
            clone, after, requested,
            host=self._host, patching=self.patching, addresses=self._addresses,
            impairments=self.impairments, flapping=self.flapping,
        )  # fmt: skip

    def requested(
        self, clone: Pair, ifnet: Half | None, request: Mapping[str, object]
    ) -> Mapping[Ifnet, Collection[str]]:
        """Return the keys of each half that a request names."""
        return pairsettings.requested_keys(clone, ifnet, request)

    async def rewire(self, clone: Pair) -> None:
        """Apply the pair's present workers and settings to its cables."""
        await self.patching.rewire_pair(clone)

    def cable_of(self, ifnet: Half) -> Cable[Half]:
        """Return the cable that a half is to be an end of as it is patched now, not attached yet."""
        return self.patching.cable_of(ifnet)

    def refresh(self) -> None:
        """Update the carrier and the offloads of every half."""
        for half in self.ifnets:
            self.patching.update_carrier(half)
            self.patching.update_offload(half)

    def up_changed(self, ifnet: Half) -> None:
        """Update the carrier of a half and of its peer."""
        self.patching.up_changed(ifnet)

    def track(self, clone: Pair) -> None:
        """Track the halves of a pair, and follow its schedule."""
        super().track(clone)
        self.flapping.follow(clone)
        if clone.settings.schedule:  # which may have changed the carrier before it was followed
            self.patching.update_pair(clone)

    def moved(self, ifnet: Half, before: Place) -> None:
        """Do nothing: a half is forwarded wherever it is."""

    # Handover.

    def save(self, clone: Pair, configured: PairSettings | None) -> SavedPair:
        """Return a pair in the form of the state file."""
        a, b = clone.halves
        return SavedPair(
            name=clone.name,
            settings=clone.settings,
            origin=clone.origin,
            workers=tuple(worker.number for worker in clone.workers),
            halves=(_saved_half(a), _saved_half(b)),
            plugged=clone.plugged,
            said=configured if configured != clone.settings else None,
            expiry=clone.expiry,
            scheduled_ns=clone.scheduled_ns if clone.settings.schedule else 0,
        )

    def adopt(self, saved: SavedPair, taps: Sequence[Tap]) -> Pair:
        """Take over a pair of a predecessor; its halves are patched to those that were taken over already."""
        a, b = (
            _adopted_half(half, saved.settings, tap) for half, tap in zip(saved.halves, taps, strict=True)
        )
        every = self._environment.workers
        workers = tuple(every[number % len(every)] for number in saved.workers)
        pair = Pair(saved.name, saved.settings, (a, b), workers, saved.origin, plugged=saved.plugged)
        pair.expiry, pair.scheduled_ns = saved.expiry, saved.scheduled_ns
        self._clones[pair.name] = pair
        for half, saved_half in zip((a, b), saved.halves, strict=True):
            half.pair = pair
            self._addresses.adopt(half)
            peer = self.half(saved_half.peer or "")
            if peer is not None:
                half.peer, peer.peer = peer, half
        return pair

    # Settings.

    def merged(self, clone: Pair, ifnet: Half | None, request: Mapping[str, object]) -> PairSettings:
        """Return the pair's settings with the keys of a request changed."""
        return pairsettings.merged_settings(clone, ifnet, request, self.impairments.presets)

    def table_of(self, configuration: Configuration) -> Mapping[str, PairSettings]:
        """Return the tables of pairs in a configuration."""
        return configuration.epair

    def matched(self, clone: Pair, wanted: PairSettings | None) -> PairSettings:
        """Return the pair's settings, written as in ``wanted`` where that describes the present state."""
        return pairsettings.matched_settings(clone, wanted)

    def observed(self, clone: Pair) -> PairSettings:
        """Return the settings that would create the pair as it is now."""
        return pairsettings.observed_pair(clone)

    def exact(self, clone: Pair) -> PairSettings:
        """Return the pair's settings with what its halves have where that was chosen."""
        return pairsettings.exact_settings(clone)

    def confirm(self, clone: Pair, wanted: PairSettings) -> None:
        """Record that a pair is as the configuration wants it, and belongs to the configuration."""
        clone.record(self.matched(clone, wanted))
        clone.record(pairsettings.with_peers(clone, wanted))
        clone.origin = "configuration"

    # Steps of the lifecycle that only pairs have.

    def _renew_address(self, ifnet: Half) -> None:
        self._addresses.renew(ifnet)

    def _ifnets_of(self, clone: Pair) -> tuple[Half, ...]:
        return clone.halves

    def _clone_of(self, ifnet: Half) -> Pair:
        return ifnet.pair

    async def _make(
        self, undo: contextlib.AsyncExitStack, name: str, settings: PairSettings, origin: Origin
    ) -> Pair:
        macs = self._addresses.take(undo, name, settings)
        taps = [await self._open(undo, name, side, settings) for side in names.SIDES]
        number = self._host.number_of(taps[0])
        a, b = (
            self._half(undo, side, settings, tap, macs.get(side, ""))
            for side, tap in zip(names.SIDES, taps, strict=True)
        )
        workers = self._environment.workers
        first = min((tap.index for tap in taps), key=self._load)
        chosen = tuple(workers[(first + queue) % len(workers)] for queue in range(settings.queues))
        pair = Pair(name, settings, (a, b), chosen, origin, scheduled_ns=time.monotonic_ns())
        for half in pair.halves:
            half.pair = pair
        for half in pair.halves:
            undo.callback(self.impairments.release, half)
        await self._impair(pair, settings)
        undo.push_async_callback(self._disconnect, pair)
        await self.patching.connect_new(pair)
        for half in pair.halves:
            # The half that is set up first would transmit to a peer that is not up yet.
            self.patching.update_carrier(half)
        for half in pair.halves:
            target = half.settings.name or half.device
            half.place = await self._host.place(half.tap, target, half.settings.netns)
        await self._addresses.derive(undo, pair.halves, number)
        for half in pair.halves:
            await self._host.configure(half.tap, half.place, link_settings(half.settings, half.mac))
            half.up = half.settings.up
        return pair

    async def _impair(self, pair: Pair, settings: PairSettings) -> None:
        """Give a new pair its lines. Raises KernelError."""
        try:
            await self.impairments.record(pair, settings)
        except Refused as error:
            raise KernelError(error.errno, f"{pair.name}: {error}") from error

    def _created(self, ifnet: Half) -> None:
        self.patching.update_carrier(ifnet)
        ifnet.carrier = ifnet.up and bool(ifnet.carrier_on)

    def _forget(self, ifnet: Half) -> None:
        self._addresses.release(ifnet)

    async def _detach_peers(self, down: contextlib.AsyncExitStack, clone: Pair) -> None:
        halves = await down.enter_async_context(self.patching.locked(*clone.halves))
        peers = halves - set(clone.halves)
        if peers:
            down.push_async_callback(self.patching.rewire, peers)

    async def _move_references(self, clone: Pair) -> None:
        self.patching.abandon(clone)

    def _detached(self, clone: Pair) -> None:
        self.flapping.forget(clone)
        self.patching.end_lines(clone)

    def _load(self, index: int) -> int:
        """Return the number of cables of the worker that an interface index leads to.

        The indices of first halves differ by two, which alone would leave every other worker idle."""
        workers = self._environment.workers
        return len(workers[index % len(workers)].attachments)

    async def _open(
        self, undo: contextlib.AsyncExitStack, pair: str, side: names.Side, settings: PairSettings
    ) -> Tap:
        device, half = names.half_name(pair, side), settings.half(side)
        tap = await self._host.open_tap(
            device, queues=settings.queues, offload=settings.offload, name=half.name, netns=half.netns
        )
        undo.push_async_callback(self._host.close_taps, (tap,))
        if settings.offload:
            warn_of_missing(device, tap)
        return tap

    def _half(
        self, undo: contextlib.AsyncExitStack, side: names.Side, pair: PairSettings, tap: Tap, address: str
    ) -> Half:
        settings = pair.half(side)
        if settings.sndbuf is not None:
            self._host.set_sndbuf(tap, settings.sndbuf)
        return Half(
            device=tap.name,
            side=side,
            settings=settings,
            mac=address,
            tap=tap,
            slots=self._take_slots(undo, tap),
            place=self._host.at_home(tap),
            mtu=settings.mtu,
            offload_on=pair.offload,
        )

    async def _disconnect(self, pair: Pair) -> None:
        """Detach the cables of a pair that cannot be created."""
        self._begin_destruction(pair)
        cables = {half.cable for half in pair.halves if half.cable is not None}
        await together(*(cable.detach() for cable in cables))


def _saved_half(half: Half) -> SavedHalf:
    return SavedHalf(
        device=SavedDevice.of(half),
        side=half.side,
        mac=half.mac,
        peer=half.peer.device if half.peer is not None else None,
        line=SavedLine.of(half.line) if half.line is not None else None,
    )


def _adopted_half(saved: SavedHalf, settings: PairSettings, tap: Tap) -> Half:
    device = saved.device
    return Half(
        device=device.name,
        side=saved.side,
        settings=settings.half(saved.side),
        mac=saved.mac,
        tap=tap,
        slots=device.slots,
        place=device.place.place(),
        mtu=device.mtu,
        up=device.up,
        carrier=device.carrier,
        placed=device.placed_in(settings.half(saved.side).netns),
        # The predecessor may have been killed before these were written to the file.
        carrier_on=None,
        offload_on=None,
    )
