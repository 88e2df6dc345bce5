"""Changes of pairs in place: other settings are applied while their halves forward."""

from __future__ import annotations

from typing import Final

from epaird.config.settings import HalfSettings, PairSettings
from epaird.control.interfaces.ifnet import Half, Pair
from epaird.control.interfaces.inplace import change_device, refuse_fixed
from epaird.control.interfaces.pairaddresses import PairAddresses
from epaird.control.interfaces.pairsettings import exact_settings
from epaird.control.interfaces.patching import Patching
from epaird.control.machine.host import Host
from epaird.control.operations import Refused
from epaird.kernel.errors import KernelError
from epaird.names.cloners import SIDES

_UNBOUNDED: Final = 2**31 - 1
"""The sndbuf of a new device (INT_MAX, drivers/net/tun.c)."""


class PairChanges:
    """Applies other settings to pairs in place."""

    def __init__(self, host: Host, patching: Patching, addresses: PairAddresses) -> None:
        self._host = host
        self._patching = patching
        self._addresses = addresses

    async def apply(self, pair: Pair, after: PairSettings) -> None:
        """Apply other settings.

        Raises Refused, KernelError, WorkerLost or WorkerRefused; after the first two the old settings are
        applied again as far as possible."""
        before, exact = pair.settings, exact_settings(pair)
        refuse_fixed(pair.name, before.model_dump(), after.model_dump())
        for side in SIDES:
            refuse_fixed(f"{pair.name}{side}", *(each.half(side).model_dump() for each in (before, after)))
        try:
            await self._apply_all(pair, after)
        except (KernelError, Refused):
            # Not those without their hardware addresses: others would be derived.
            await self._apply_all(pair, exact)
            pair.record(before)
            raise

    async def _apply_all(self, pair: Pair, after: PairSettings) -> None:
        before = pair.settings
        for half in pair.halves:
            await self._apply_half(half, after.half(half.side))
        pair.settings = after
        if before.carrier != after.carrier and "off" not in (before.carrier, after.carrier):
            for half in pair.halves:
                self._patching.up_changed(half)
        elif (before.carrier, before.coalesce) != (after.carrier, after.coalesce):
            if after.carrier == "off":
                pair.plugged = before.carrier
            await self._patching.rewire_pair(pair)

    async def _apply_half(self, half: Half, after: HalfSettings) -> None:
        before = half.settings
        if before == after:
            return
        mac = half.mac if before.mac == after.mac else self._addresses.change(half, after)
        try:
            await change_device(self._host, half, before, after, (half.mac, mac))
        except KernelError:
            self._addresses.release_unused(half, mac)
            raise
        if after.sndbuf != before.sndbuf:
            self._host.set_sndbuf(half.tap, after.sndbuf or _UNBOUNDED)
        unused, half.mac = half.mac, mac
        self._addresses.release_unused(half, unused)
        half.settings = after
        if before.up != after.up:
            self._patching.up_changed(half)
