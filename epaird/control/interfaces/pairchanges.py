"""Changes of pairs in place: other settings are applied while their halves forward."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from epaird.config.settings import PairSettings
from epaird.control.interfaces.ifnet import Half, Ifnet, Pair
from epaird.control.interfaces.inplace import DeviceChange, refuse_fixed
from epaird.control.interfaces.pairaddresses import PairAddresses
from epaird.control.interfaces.patching import Patching
from epaird.control.machine.host import Host
from epaird.names.cloners import SIDES

_UNBOUNDED: Final = 2**31 - 1
"""The sndbuf of a new device (INT_MAX, drivers/net/tun.c)."""


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
    ) -> None:
        """``requested`` are the keys of each half that are set even if they are as recorded."""
        self.clone = pair
        self.devices: list[DeviceChange] = []
        self._before, self._after = pair.settings, after
        self._plugged = pair.plugged
        self._requested = requested
        self._macs: list[tuple[Half, str, str]] = []
        """Each half with its former and its new hardware address."""
        self._host = host
        self._patching = patching
        self._addresses = addresses

    def prepare(self) -> None:
        """Check the settings and take the hardware addresses. Raises Refused or KernelError."""
        pair, before, after = self.clone, self._before, self._after
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
        await self._forward()
        for half, former, _ in self._macs:
            self._addresses.release_unused(half, former)

    async def revert(self) -> None:
        """Record the settings of before, and forward as before."""
        for half, _, mac in self._macs:
            self._addresses.release_unused(half, mac)
        for half in self.clone.halves:
            self._set_sndbuf(half, self._after, self._before)
        self.clone.plugged = self._plugged
        self.clone.record(self._before)
        await self._forward()

    async def _forward(self) -> None:
        """Have the cables forward by the present settings."""
        before, after = self._before, self._after
        only_the_rule = "off" not in (before.carrier, after.carrier)
        if before.coalesce != after.coalesce or (before.carrier != after.carrier and not only_the_rule):
            await self._patching.rewire_pair(self.clone)
        for half in self.clone.halves:
            self._patching.up_changed(half)

    def _set_sndbuf(self, half: Half, before: PairSettings, after: PairSettings) -> None:
        sndbuf = after.half(half.side).sndbuf
        if sndbuf != before.half(half.side).sndbuf:
            self._host.set_sndbuf(half.tap, sndbuf or _UNBOUNDED)
