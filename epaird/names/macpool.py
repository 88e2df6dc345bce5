"""Which hardware addresses this host's pairs have, and the next ones.  No two interfaces share one.

FreeBSD derives an address from an index that is never used again.  Its hash has 32 bits, so two indices
can mean one address: such an index is passed over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from epaird.names import mac
from epaird.names.grammar import HALVES, Half

_ATTEMPTS: Final = 1 << 16


class NoAddress(Exception):
    """Every address that could be tried is taken.  One line."""


class MacPool:
    """The addresses of one host."""

    def __init__(self, host_id: int, made: int = 0) -> None:
        """``host_id`` has 64 bits; ``made`` is how many indices have been used before."""
        self._host_id = host_id
        self._made = made
        self._taken: set[str] = set()
        self._reserved: set[str] = set()

    @property
    def made(self) -> int:
        """Indices used so far; the next one is higher."""
        return self._made

    def reserve(self, address: str) -> None:
        """Derive this address for nobody: somebody has chosen it, and will claim it."""
        self._reserved.add(address)

    def claim(self, address: str) -> None:
        """Somebody has chosen this address; raises NoAddress when an interface has it."""
        if address in self._taken:
            raise NoAddress(f"mac {address} is another interface's")
        self._taken.add(address)

    def release(self, address: str) -> None:
        """Nobody has this address any more."""
        self._taken.discard(address)

    def derive(self) -> dict[Half, str]:
        """The addresses of a pair's halves that no pair had before, claimed."""
        return self._first_free(self._next_of_index)

    def stable(self, name: str) -> dict[Half, str]:
        """The addresses of a pair's halves that follow from its name, claimed: the same each time, as long
        as no other interface has them."""
        words = name.encode().ljust(16, b"\0")
        seed = mac.jenkins_hash32([int.from_bytes(words[at : at + 4], "little") for at in range(0, 16, 4)])
        return self._first_free(lambda attempt: (seed, self._host_id + attempt))

    def _next_of_index(self, _attempt: int) -> tuple[int, int]:
        self._made += 1
        return self._made, self._host_id

    def _first_free(self, source: Callable[[int], tuple[int, int]]) -> dict[Half, str]:
        for attempt in range(_ATTEMPTS):
            index, host_id = source(attempt)
            found = {half: mac.derive(index, host_id, half) for half in HALVES}
            if self._taken.isdisjoint(found.values()) and self._reserved.isdisjoint(found.values()):
                self._taken.update(found.values())
                return found
        raise NoAddress("there is no free hardware address")
