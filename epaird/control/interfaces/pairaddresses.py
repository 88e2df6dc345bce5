"""The hardware addresses of pairs: each belongs to one interface until that is destroyed."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Container, Iterable

from epaird.config.settings import HalfSettings, PairSettings
from epaird.control.interfaces.ifnet import Half
from epaird.control.machine.host import Host
from epaird.kernel.errors import KernelError
from epaird.names import cloners as names
from epaird.names.macpool import DeviceNumber, MacPool, NoAddress

log = logging.getLogger(__name__)


class PairAddresses:
    """Takes addresses for halves from the pool, and returns them."""

    def __init__(self, pool: MacPool, host: Host) -> None:
        self._pool = pool
        self._host = host

    def take(
        self, undo: contextlib.AsyncExitStack, name: str, settings: PairSettings
    ) -> dict[names.Side, str]:
        """Take the addresses of a new pair's halves that follow from its settings; ``undo`` returns them.

        A half without ``mac`` has none yet. Raises KernelError, EEXIST when another interface has one of
        them."""
        chosen = {side: settings.half(side).mac for side in names.SIDES}
        stable: dict[names.Side, str] = {}
        macs: dict[names.Side, str] = {}
        try:
            if "stable" in chosen.values():
                stable = self._pool.stable(name)
            for side, address in chosen.items():
                if address == "stable":
                    macs[side] = stable[side]
                elif address is not None:
                    self._pool.claim(address)
                    macs[side] = address
                if side in macs:
                    undo.callback(self._pool.release, macs[side])
        except NoAddress as error:
            raise KernelError(errno.EEXIST, f"{name}: {error}") from error
        finally:
            self._release_others(stable, macs.values())
        return macs

    async def derive(
        self, undo: contextlib.AsyncExitStack, halves: tuple[Half, ...], device: DeviceNumber
    ) -> None:
        """Give addresses to the halves of a new pair that have none; ``undo`` returns them.

        The halves are in their namespaces: no address is given that another device there has. ``device`` is
        the first half's. Raises KernelError."""
        wanted = [half for half in halves if not half.mac]
        if not wanted:
            return
        present: set[str] = set()
        for place in {half.place.identity: half.place for half in wanted}.values():
            present |= await self._host.hardware_addresses(place)
        both = self._derived(wanted[0], device, present)
        for half in wanted:
            half.mac = both[half.side]
            undo.callback(self._pool.release, half.mac)
        self._release_others(both, [half.mac for half in wanted])

    def adopt(self, half: Half) -> None:
        """Take the address of a half that a predecessor has created."""
        with contextlib.suppress(NoAddress):
            self._pool.claim(half.mac)

    def change(self, half: Half, after: HalfSettings) -> str:
        """Return the address that a half has with other settings, taken from the pool.

        Raises KernelError, EEXIST when another interface has it."""
        if after.mac is None:
            both = self._derived(half, None, self._host.hardware_addresses_now(half.place))
        else:
            try:
                if after.mac != "stable":
                    if after.mac != half.mac:
                        self._pool.claim(after.mac)
                    return after.mac
                both = self._pool.stable(half.pair.name)
            except NoAddress as error:
                raise KernelError(errno.EEXIST, f"{half.device}: {error}") from error
        self._release_others(both, [both[half.side]])
        return both[half.side]

    def renew(self, half: Half) -> None:
        """Give another address to a half that was moved, if its own was derived and a device there has it.

        Raises KernelError."""
        present = self._host.hardware_addresses_now(half.place, besides=half.place.index)
        if half.settings.mac is None and half.mac in present:
            former, half.mac = half.mac, self.change(half, half.settings)
            self._pool.release(former)
            log.info(
                "%s: another device in its new namespace has the hardware address %s: it gets %s",
                half.device, former, half.mac,
            )  # fmt: skip

    def release_unused(self, half: Half, address: str) -> None:
        """Return an address that a half does not have, or no longer has."""
        if address != half.mac:
            self._pool.release(address)

    def release(self, half: Half) -> None:
        """Return the address of a half that was destroyed."""
        self._pool.release(half.mac)

    def _derived(
        self, half: Half, device: DeviceNumber | None, present: Container[str]
    ) -> dict[names.Side, str]:
        """Take derived addresses for both halves of a pair, none of which is ``present``."""
        try:
            return self._pool.derive(device, present)
        except NoAddress as error:
            raise KernelError(errno.EEXIST, f"{half.device}: {error}") from error

    def _release_others(self, both: dict[names.Side, str], kept: Iterable[str]) -> None:
        """Return the addresses of a couple that were not given to a half."""
        for address in set(both.values()) - set(kept):
            self._pool.release(address)
