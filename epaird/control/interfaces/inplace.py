"""Changes in place: an interface is given other settings while it forwards."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Mapping
from typing import Final

from epaird.config.immutable import IMMUTABLE
from epaird.config.reading import parse
from epaird.config.settings import HalfSettings, LoopbackSettings, PairSettings
from epaird.control.interfaces.ifnet import Half, Loopback, Pair, link_settings
from epaird.control.interfaces.loopbacks import Loopbacks
from epaird.control.interfaces.pairs import Pairs
from epaird.control.machine.host import Host
from epaird.control.operations import Refused
from epaird.kernel.errors import KernelError
from epaird.names.cloners import SIDES

log = logging.getLogger(__name__)

_NO_BOUND: Final = 2**31 - 1
"""The sndbuf of a new device (INT_MAX, drivers/net/tun.c)."""
_OF_A_PAIR: Final = frozenset(PairSettings.model_fields) - set(SIDES)


class InPlace:
    """What is needed for it."""

    def __init__(self, host: Host, pairs: Pairs, loopbacks: Loopbacks) -> None:
        self._host = host
        self._pairs = pairs
        self._loopbacks = loopbacks
        self._one_at_a_time = asyncio.Lock()

    async def change(self, found: Pair | Half | Loopback, settings: Mapping[str, object]) -> None:
        """Change what ``settings`` say, keys and values as in the configuration's table of it.

        Of a pair also keys of its halves, which both get.  Raises Refused, InvalidConfiguration,
        KernelError, WorkerLost or WorkerRefused; then things are as before, as far as can be had."""
        async with self._one_at_a_time:
            if isinstance(found, Loopback):
                await self.apply_loopback(found, _of_loopback(found, settings))
            elif isinstance(found, Half):
                pair = found.pair
                await self.apply_pair(pair, self._of_pair(pair, {found.side: settings}))
            else:
                await self.apply_pair(found, self._of_pair(found, settings))

    async def give(self, found: Pair | Loopback, after: PairSettings | LoopbackSettings) -> None:
        """Give an interface other settings, all of them.  Raises as :meth:`change`."""
        async with self._one_at_a_time:
            if isinstance(found, Pair) and isinstance(after, PairSettings):
                await self.apply_pair(found, after)
            elif isinstance(found, Loopback) and isinstance(after, LoopbackSettings):
                await self.apply_loopback(found, after)

    async def apply_pair(self, pair: Pair, after: PairSettings) -> None:
        """Give a pair other settings, all of them.  Raises as :meth:`change`."""
        before = pair.settings
        _refuse_fixed(pair.name, before.model_dump(), after.model_dump())
        for side in SIDES:
            _refuse_fixed(f"{pair.name}{side}", *(each.half(side).model_dump() for each in (before, after)))
        try:
            await self._give_pair(pair, after)
        except (KernelError, Refused):
            await self._give_pair(pair, before)
            raise

    async def apply_loopback(self, loopback: Loopback, after: LoopbackSettings) -> None:
        """Give a loopback other settings, all of them.  Raises as :meth:`change`."""
        before = loopback.settings
        _refuse_fixed(loopback.device, before.model_dump(), after.model_dump())
        try:
            await self._give_loopback(loopback, after)
        except KernelError:
            await self._give_loopback(loopback, before)
            raise

    async def _give_pair(self, pair: Pair, after: PairSettings) -> None:
        before = pair.settings
        for half in pair.halves:
            await self._give_half(half, after.half(half.side))
        pair.settings = after
        if before.carrier != after.carrier and "off" not in (before.carrier, after.carrier):
            for half in pair.halves:
                self._pairs.patching.turned(half)
        elif (before.carrier, before.coalesce) != (after.carrier, after.coalesce):
            if after.carrier == "off":
                pair.plugged = before.carrier
            patching = self._pairs.patching
            async with patching.held(*pair.halves) as those:
                await patching.rewire(those)

    async def _give_half(self, half: Half, after: HalfSettings) -> None:
        before = half.settings
        if before == after:
            return
        mac = half.mac if before.mac == after.mac else self._pairs.another_mac(half, after)
        try:
            await self._give_device(half, before, after, (half.mac, mac))
        except KernelError:
            self._pairs.release_mac(half, mac)
            raise
        if after.sndbuf != before.sndbuf:
            self._host.set_sndbuf(half.tap, after.sndbuf or _NO_BOUND)
        unused, half.mac = half.mac, mac
        self._pairs.release_mac(half, unused)
        half.settings = after
        if before.up != after.up:
            self._pairs.turned(half)

    async def _give_loopback(self, loopback: Loopback, after: LoopbackSettings) -> None:
        before = loopback.settings
        if before == after:
            return
        if before.policy_routing:
            await self._loopbacks.route_past(loopback, loopback.place)
        await self._give_device(loopback, before, after, (None, None))
        loopback.settings = after
        await self._loopbacks.route_through(loopback)
        if before.mode != after.mode:
            await self._loopbacks.rewire(loopback)

    async def _give_device(
        self,
        ifnet: Half | Loopback,
        before: HalfSettings | LoopbackSettings,
        after: HalfSettings | LoopbackSettings,
        macs: tuple[str | None, str | None],
    ) -> None:
        old, new = link_settings(before, macs[0]), link_settings(after, macs[1])
        name = after.name or ifnet.device
        try:
            if old != new:
                await self._host.reconfigure(ifnet.tap, ifnet.place, old, new)
            if name != (before.name or ifnet.device):
                await self._host.rename(ifnet.tap, ifnet.place, name)
        except KernelError:
            # Some of it may have been had.
            with contextlib.suppress(KernelError):
                await self._host.reconfigure(ifnet.tap, ifnet.place, new, old)
            raise
        ifnet.up = after.up if after.up != before.up else ifnet.up
        if after.mtu != ifnet.mtu and after.mtu != before.mtu:
            ifnet.mtu = after.mtu
            if ifnet.wire is not None:
                ifnet.wire.resize()

    def _of_pair(self, pair: Pair, settings: Mapping[str, object]) -> PairSettings:
        """The pair's settings with some of them others."""
        wanted = pair.settings.model_dump()
        peers = {side: {"peer": wanted[side].pop("peer")} for side in SIDES}
        for key, value in settings.items():
            if key in SIDES and isinstance(value, Mapping):
                wanted[key] |= value
            elif key == "carrier" and value == "on":
                if wanted[key] == "off":
                    wanted[key] = pair.plugged
            elif key in HalfSettings.model_fields and key not in _OF_A_PAIR:
                for side in SIDES:
                    wanted[side][key] = value
            else:
                wanted[key] = value
        if any("peer" in wanted[side] for side in SIDES):
            raise Refused(errno.EINVAL, f"{pair.name}: peer is changed by patch and unpatch")
        found = parse({"epair": {pair.name: wanted}}).epair[pair.name]
        # By whom a half is plugged nothing is told here: the other one is not in this configuration.
        return found.model_copy(
            update={side: found.half(side).model_copy(update=peers[side]) for side in SIDES}
        )


def _of_loopback(loopback: Loopback, settings: Mapping[str, object]) -> LoopbackSettings:
    wanted = loopback.settings.model_dump() | dict(settings)
    return (parse({"lo": {loopback.device: wanted}}).lo or {})[loopback.device]


def _refuse_fixed(name: str, before: Mapping[str, object], after: Mapping[str, object]) -> None:
    for key, fixed in IMMUTABLE.items():
        if before.get(key) != after.get(key):
            hint = fixed.instead or fixed.reason
            raise Refused(errno.EINVAL, f"{name}: {key} cannot be changed in place: {hint}")
