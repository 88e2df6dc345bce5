"""The hardware addresses of pairs: each belongs to one interface until that is destroyed."""

from __future__ import annotations

import contextlib
import errno

from epaird.config.settings import HalfSettings, PairSettings
from epaird.control.interfaces.ifnet import Half
from epaird.kernel.errors import KernelError
from epaird.names import cloners as names
from epaird.names.macpool import MacPool, NoAddress


class PairAddresses:
    """Takes addresses for halves from the pool, and returns them."""

    def __init__(self, pool: MacPool) -> None:
        self._pool = pool

    def take(
        self, undo: contextlib.AsyncExitStack, name: str, settings: PairSettings
    ) -> dict[names.Side, str]:
        """Take the addresses of a new pair's halves; ``undo`` returns them.

        Raises KernelError, EEXIST when another interface has one of them."""
        chosen = {side: settings.half(side).mac for side in names.SIDES}
        found: dict[str | None, dict[names.Side, str]] = {}
        macs: dict[names.Side, str] = {}
        try:
            if None in chosen.values():
                found[None] = self._pool.derive()
            if "stable" in chosen.values():
                found["stable"] = self._pool.stable(name)
            for side, address in chosen.items():
                if address is None or address == "stable":
                    macs[side] = found[address][side]
                else:
                    self._pool.claim(address)
                    macs[side] = address
                undo.callback(self._pool.release, macs[side])
        except NoAddress as error:
            raise KernelError(errno.EEXIST, f"{name}: {error}") from error
        finally:
            for of_both in found.values():
                for side, address in of_both.items():
                    if macs.get(side) != address:
                        self._pool.release(address)
        return macs

    def adopt(self, half: Half) -> None:
        """Take the address of a half that a predecessor has created."""
        with contextlib.suppress(NoAddress):
            self._pool.claim(half.mac)

    def change(self, half: Half, after: HalfSettings) -> str:
        """Return the address that a half has with other settings, taken from the pool.

        Raises KernelError, EEXIST when another interface has it."""
        try:
            if after.mac is not None and after.mac != "stable":
                if after.mac != half.mac:
                    self._pool.claim(after.mac)
                return after.mac
            both = self._pool.derive() if after.mac is None else self._pool.stable(half.pair.name)
        except NoAddress as error:
            raise KernelError(errno.EEXIST, f"{half.device}: {error}") from error
        for side, address in both.items():
            if side != half.side:
                self._pool.release(address)
        return both[half.side]

    def release_unused(self, half: Half, address: str) -> None:
        """Return an address that a half does not have, or no longer has."""
        if address != half.mac:
            self._pool.release(address)

    def release(self, half: Half) -> None:
        """Return the address of a half that was destroyed."""
        self._pool.release(half.mac)
