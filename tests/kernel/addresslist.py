"""A model of a device's addresses as the kernel keeps them, for comparison."""

from __future__ import annotations

from collections.abc import Iterable

from epaird.kernel.difference import AddressKey, address_key
from epaird.kernel.requests import Address


class AddressList:
    """The addresses of one device, in the order of the kernel's lists; IPv6 is oldest first."""

    def __init__(self, promote: bool = False, addresses: Iterable[Address] = ()) -> None:
        """``promote`` is the sysctl promote_secondaries."""
        self._promote = promote
        self._primaries: list[Address] = []
        self._secondaries: list[Address] = []
        self._ipv6: list[Address] = []
        for address in addresses:
            self.add(address)

    @property
    def addresses(self) -> list[Address]:
        """All addresses."""
        return [*self._primaries, *self._secondaries, *self._ipv6]

    @property
    def primaries(self) -> list[Address]:
        """The IPv4 addresses that are the primaries of their subnets."""
        return list(self._primaries)

    def add(self, address: Address) -> None:
        """Add an address. Raises ValueError when the device has it, also in another form."""
        key = address_key(address)
        if any(address_key(each).identity == key.identity for each in self.addresses):
            raise ValueError(f"{address} exists")
        if key.version == 6:
            self._ipv6.append(address)
        elif any(_subnet(each) == key.subnet for each in self._primaries):
            self._secondaries.append(address)
        else:
            self._primaries.append(address)

    def remove(self, address: Address) -> None:
        """Remove an address and what the kernel takes along. Raises ValueError when it is absent."""
        if address in self._ipv6:
            self._ipv6.remove(address)
        elif address in self._secondaries:
            self._secondaries.remove(address)
        else:
            self._primaries.remove(address)
            along = [each for each in self._secondaries if _subnet(each) == _subnet(address)]
            if self._promote:
                self._primaries += along[:1]
                along = along[:1]
            self._secondaries = [each for each in self._secondaries if each not in along]


def fresh(wanted: Iterable[Address], foreign_primaries: Iterable[Address] = ()) -> list[AddressKey]:
    """Return the wanted addresses in the order that they have on a new device.

    The foreign primaries were there before them."""
    others = list(foreign_primaries)
    made = AddressList(addresses=others)
    for address in wanted:
        made.add(address)
    return [address_key(each) for each in made.addresses if each not in others]


def _subnet(address: Address) -> tuple[int, int]:
    return address_key(address).subnet
