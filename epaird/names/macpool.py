"""The hardware addresses in use on this host, and the choice of new ones. No two interfaces share one.

FreeBSD derives a pair's address from the host's id and a number: the interface's own index, or the next
number where that index was used before, because its kernel uses indices again. Linux does not use one again
within a namespace. So the number here is the index of the pair's first half, and the namespace in which the
half was created is mixed into the host's id: two daemons, or one daemon before and after a restart, never
derive an address from the same two numbers. The hash has 32 bits, so an address can still be taken. Then the
next number of this process is used, with an id of its own.
"""

from __future__ import annotations

import secrets
from collections.abc import Container, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from epaird.names import mac
from epaird.names.cloners import SIDES, Side

_ATTEMPTS: Final = 1 << 16


class NoAddress(Exception):
    """No free address was found, or the requested one is taken. One line."""


@dataclass(frozen=True, slots=True)
class DeviceNumber:
    """The number of a device that no other device has had since the machine started."""

    namespace: int
    """Cookie of the namespace in which the device was created, 64 bits."""
    index: int
    """Interface index that it had there."""


class MacPool:
    """The hardware addresses in use on one host."""

    def __init__(self, host_id: int, used: int = 0) -> None:
        """``host_id`` has 64 bits; ``used`` is how many numbers were used before that are no indices."""
        self._host_id = host_id
        self._own_id = mac.mixed(host_id, secrets.randbits(64))
        self._used = used
        self._taken: set[str] = set()
        self._reserved: set[str] = set()

    @property
    def used(self) -> int:
        """The last number used that is no index."""
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

    def derive(self, device: DeviceNumber | None, present: Container[str] = ()) -> dict[Side, str]:
        """Claim and return addresses for a pair's halves that no pair had before.

        ``device`` is the pair's first half, None for a pair whose halves have had such addresses. ``present``
        are addresses of other devices in the namespaces of the halves."""
        return self._first_free(self._numbers(device), present)

    def stable(self, name: str) -> dict[Side, str]:
        """Claim and return addresses for a pair's halves that follow from the pair's name.

        They are the same each time, as long as no other interface has them."""
        words = name.encode().ljust(16, b"\0")
        seed = mac.jenkins_hash32([int.from_bytes(words[at : at + 4], "little") for at in range(0, 16, 4)])
        return self._first_free(((seed, self._host_id + attempt) for attempt in range(_ATTEMPTS)), ())

    def _numbers(self, device: DeviceNumber | None) -> Iterator[tuple[int, int]]:
        """Yield the numbers to try, each with the host's id that belongs to it."""
        if device is not None:
            yield device.index, mac.mixed(self._host_id, device.namespace)
        while True:
            self._used += 1
            yield self._used, self._own_id

    def _first_free(self, numbers: Iterator[tuple[int, int]], present: Container[str]) -> dict[Side, str]:
        for index, host_id in islice(numbers, _ATTEMPTS):
            addresses = {side: mac.derive(index, host_id, side) for side in SIDES}
            free = self._taken.isdisjoint(addresses.values()) and self._reserved.isdisjoint(
                addresses.values()
            )
            if free and not any(address in present for address in addresses.values()):
                self._taken.update(addresses.values())
                return addresses
        raise NoAddress("there is no free hardware address")
