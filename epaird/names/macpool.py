"""The hardware addresses in use on this host, and the choice of new ones. No two interfaces share one.

FreeBSD derives an address from an index that is never used again. Its hash has 32 bits, so two indices
can give the same address: an index whose address is taken is skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from epaird.names import mac
from epaird.names.cloners import SIDES, Side

_ATTEMPTS: Final = 1 << 16


class NoAddress(Exception):
    """No free address was found, or the requested one is taken. One line."""


class MacPool:
    """The hardware addresses in use on one host."""

    def __init__(self, host_id: int, used: int = 0) -> None:
        """``host_id`` has 64 bits; ``used`` is the number of indices used before."""
        self._host_id = host_id
        self._used = used
        self._taken: set[str] = set()
        self._reserved: set[str] = set()

    @property
    def used(self) -> int:
        """Number of indices used so far, which is also the highest of them."""
        return self._used

    def reserve(self, address: str) -> None:
        """Exclude an address that the configuration names from derivation; it is claimed later."""
        self._reserved.add(address)

    def claim(self, address: str) -> None:
        """Record that an interface has this address; raises NoAddress if another interface has it."""
        if address in self._taken:
            raise NoAddress(f"mac {address} is another interface's")
        self._taken.add(address)

    def release(self, address: str) -> None:
        """Make an address free again."""
        self._taken.discard(address)

    def derive(self) -> dict[Side, str]:
        """Claim and return addresses for a pair's halves that no pair had before."""
        return self._first_free(self._next_index)

    def stable(self, name: str) -> dict[Side, str]:
        """Claim and return addresses for a pair's halves that follow from the pair's name.

        They are the same each time, as long as no other interface has them."""
        words = name.encode().ljust(16, b"\0")
        seed = mac.jenkins_hash32([int.from_bytes(words[at : at + 4], "little") for at in range(0, 16, 4)])
        return self._first_free(lambda attempt: (seed, self._host_id + attempt))

    def _next_index(self, _attempt: int) -> tuple[int, int]:
        self._used += 1
        return self._used, self._host_id

    def _first_free(self, source: Callable[[int], tuple[int, int]]) -> dict[Side, str]:
        for attempt in range(_ATTEMPTS):
            index, host_id = source(attempt)
            addresses = {side: mac.derive(index, host_id, side) for side in SIDES}
            if self._taken.isdisjoint(addresses.values()) and self._reserved.isdisjoint(addresses.values()):
                self._taken.update(addresses.values())
                return addresses
        raise NoAddress("there is no free hardware address")
