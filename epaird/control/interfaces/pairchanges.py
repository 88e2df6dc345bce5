"""Changes of pairs in place: other settings are applied while their halves forward."""

from __future__ import annotations

from epaird.config.settings import HalfSettings, PairSettings
from epaird.control.interfaces.flags import sndbuf
from epaird.control.interfaces.ifnet import Half, Pair
from epaird.control.interfaces.inplace import change_device, refuse_fixed, warn_of_missing
from epaird.control.interfaces.pairaddresses import PairAddresses
from epaird.control.interfaces.pairsettings import exact_settings
from epaird.control.interfaces.patching import Patching
from epaird.control.machine.host import Host
from epaird.control.operations import Refused
from epaird.kernel.errors import KernelError
from epaird.names.cloners import SIDES


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
        if after.carrier == "off" != before.carrier:
            pair.plugged = before.carrier
        if _wiring(before) != _wiring(after):
            await self._patching.rewire_pair(pair)
        elif before.carrier != after.carrier:
            for half in pair.halves:
                self._patching.up_changed(half)
        if after.offload and not before.offload:
            for half in pair.halves:
                warn_of_missing(half.device, half.tap)

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
            self._host.set_sndbuf(half.tap, sndbuf(after, up=half.up))
        unused, half.mac = half.mac, mac
        self._addresses.release_unused(half, unused)
        half.settings = after
        if before.up != after.up:
            self._patching.up_changed(half)


def _wiring(settings: PairSettings) -> tuple[bool, ...]:
    """Return what a pair's cables are made of; with another carrier rule alone they stay as they are."""
    return settings.carrier == "off", settings.coalesce, settings.offload, settings.pmtu
