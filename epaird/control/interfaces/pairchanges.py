"""Changes of pairs in place: other settings are applied while their halves forward."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from epaird.config.settings import PairSettings
from epaird.control.interfaces.flags import sndbuf
from epaird.control.interfaces.flapping import Flapping
from epaird.control.interfaces.ifnet import Half, Ifnet, Pair
from epaird.control.interfaces.impairments import Impairments, tables
from epaird.control.interfaces.inplace import DeviceChange, refuse_fixed, warn_of_missing
from epaird.control.interfaces.lines import Applied
from epaird.control.interfaces.pairaddresses import PairAddresses
from epaird.control.interfaces.patching import Patching
from epaird.control.machine.host import Host
from epaird.names.cloners import SIDES


class PairChange:
    """The change of a pair to other settings."""

    def __init__(
        self,
        pair: Pair,
        after: PairSettings,
        requested: Mapping[Ifnet, Collection[str]],
        *,
        host: Host,
        patching: Patching,
        addresses: PairAddresses,
        impairments: Impairments,
        flapping: Flapping,
    ) -> None:
        """``requested`` are the keys of each half that are set even if they are as recorded."""
        self.clone = pair
        self.devices: list[DeviceChange] = []
        self._before, self._after = pair.settings, after
        self._plugged, self._expiry = pair.plugged, pair.expiry
        self._requested = requested
        self._macs: list[tuple[Half, str, str]] = []
        """Each half with its former and its new hardware address."""
        self._host = host
        self._patching = patching
        self._addresses = addresses
        self._impairments = impairments
        self._flapping = flapping
        self._scheduled_ns = pair.scheduled_ns
        self._lines = {
            half: half.line.applied if half.line is not None else Applied() for half in pair.halves
        }

    def prepare(self) -> None:
        """Check the settings and take the hardware addresses. Raises Refused or KernelError."""
        pair, before, after = self.clone, self._before, self._after
        self._impairments.wanted(after)
        refuse_fixed(pair.name, before.model_dump(), after.model_dump())
        for side in SIDES:
            refuse_fixed(f"{pair.name}{side}", *(each.half(side).model_dump() for each in (before, after)))
        for half in pair.halves:
            then, mac = after.half(half.side), half.mac
            if then.mac != half.settings.mac:
                mac = self._addresses.change(half, then)
            self._macs.append((half, half.mac, mac))
            self.devices.append(DeviceChange(half, then, mac=mac, requested=self._requested.get(half, ())))

    async def finish(self) -> None:
        """Record the settings and apply what concerns the forwarding."""
        for half in self.clone.halves:
            self._set_sndbuf(half, self._before, self._after)
        if self._after.carrier == "off" != self._before.carrier:
            self.clone.plugged = self._before.carrier
        self.clone.record(self._after)
        if self._before.schedule != self._after.schedule:
            self.clone.scheduled_ns = time.monotonic_ns()
        if tables(self._before) != tables(self._after):
            self.clone.expiry = None
        changed = await self._impairments.record(self.clone, self._after)
        await self._impairments.apply(changed, rewired=await self._forward())
        for half, former, _ in self._macs:
            self._addresses.release_unused(half, former)
        if self._after.offload and not self._before.offload:
            for half in self.clone.halves:
                warn_of_missing(half.device, half.tap)

    async def revert(self) -> None:
        """Record the settings of before, and forward as before."""
        for half, _, mac in self._macs:
            self._addresses.release_unused(half, mac)
        for half in self.clone.halves:
            self._set_sndbuf(half, self._after, self._before)
        self.clone.plugged, self.clone.expiry = self._plugged, self._expiry
        self.clone.scheduled_ns = self._scheduled_ns
        self.clone.record(self._before)
        changed = await self._impairments.restore(self._lines)
        await self._impairments.apply(changed, rewired=await self._forward())

    async def _forward(self) -> bool:
        """Have the cables forward by the present settings; return whether they were rewired."""
        rewired = _wiring(self._before) != _wiring(self._after)
        if rewired:
            await self._patching.rewire_pair(self.clone)
        self._flapping.follow(self.clone)
        for half in self.clone.halves:
            self._patching.up_changed(half)
        return rewired

    def _set_sndbuf(self, half: Half, before: PairSettings, after: PairSettings) -> None:
        then = after.half(half.side)
        if then.sndbuf != before.half(half.side).sndbuf:
            self._host.set_sndbuf(half.tap, sndbuf(then, up=half.up))


def _wiring(settings: PairSettings) -> tuple[bool, ...]:
    """Return what a pair's cables are made of; with another carrier rule alone they stay as they are."""
    return settings.carrier == "off", settings.coalesce, settings.offload, settings.pmtu
