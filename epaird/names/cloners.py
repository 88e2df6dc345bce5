"""Cloners: the kinds of interfaces that can be created by name, and the grammar of their names.

As with ifconfig(8) of FreeBSD, ``epair`` asks for an interface with the lowest free unit, ``epair7`` for the
one with unit 7. A pair's devices are its halves, ``epair7a`` and ``epair7b``; a loopback is its own device,
``lo1``. A new kind of interface is one more Cloner in CLONERS.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from epaird.kernel.abi import IFNAMSIZ
from epaird.names.grammar import InvalidName, quoted

Side = Literal["a", "b"]
SIDES: Final[tuple[Side, Side]] = ("a", "b")

HIGHEST_UNIT: Final = 32767
"""FreeBSD's IF_MAXUNIT (sys/net/if.h)."""

_NAME: Final = re.compile(r"(?P<kind>[a-z]+)(?P<unit>[0-9]*)(?P<suffix>[a-z]?)")


@dataclass(frozen=True, slots=True)
class Cloner:
    """One kind of interface and the grammar of its names: the kind's name and a unit."""

    name: str
    """Name of the kind, ``epair``; also the name of its table in the configuration."""
    noun: str
    """Word for such an interface in messages: ``pair``."""
    suffixes: tuple[str, ...] = ("",)
    """Suffixes that make an interface's name the names of its devices: ``("a", "b")``."""
    permanent: frozenset[int] = frozenset()
    """Units that exist from the start and are never destroyed."""

    def unit(self, name: str) -> int | None:
        """Return the unit that a request for ``name`` asks for, None for any that is free.

        Raises InvalidName as :meth:`check`."""
        return None if name == self.name else self.unit_of(self.check(name))

    def unit_of(self, name: str) -> int:
        """Return the unit in an interface's name: 7 for ``epair7``.

        Raises InvalidName: EINVAL for what is not a name of this kind, ENOSPC for one that is too long for
        a device with the longest suffix."""
        match = _NAME.fullmatch(name)
        if match is None or match["kind"] != self.name or not match["unit"]:
            raise InvalidName(self._not_a_name(name))
        unit, suffix = match["unit"], match["suffix"]
        if len(unit) > 1 and unit.startswith("0"):
            sound = self.name + (unit.lstrip("0") or "0")
            raise InvalidName(f"{quoted(name)} has a leading zero, write {quoted(sound)}")
        if suffix in self.suffixes and suffix:
            whole = quoted(name.removesuffix(suffix))
            raise InvalidName(f"{quoted(name)} is a half's name, its {self.noun} is {whole}")
        if suffix:
            raise InvalidName(self._not_a_name(name))
        longest = max(map(len, self.suffixes))
        if len(name) + longest >= IFNAMSIZ:
            fault = "leaves no room for its halves' letter" if longest else "is too long"
            most = f"a {self.noun}'s name has at most {IFNAMSIZ - 1 - longest} characters"
            raise InvalidName(f"{quoted(name)} {fault}: {most}", errno.ENOSPC)
        return int(unit)

    def check(self, name: str) -> str:
        """Return the name if an interface of this kind may be created with it; raise InvalidName otherwise.

        It is refused as by :meth:`unit_of`, and with EINVAL for a unit above HIGHEST_UNIT."""
        unit = self.unit_of(name)
        if unit > HIGHEST_UNIT:
            raise InvalidName(
                f"{quoted(name)} has a number above {HIGHEST_UNIT}, the highest that is allowed"
            )
        return name

    def interface(self, unit: int) -> str:
        """Return the name of the interface with this unit; raises InvalidName as :meth:`check`."""
        return self.check(f"{self.name}{unit}")

    def lowest(self, taken: Container[int]) -> int:
        """Return the lowest free unit; raises InvalidName, ENOSPC, if none is free."""
        for unit in range(HIGHEST_UNIT + 1):
            if unit not in taken:
                return unit
        raise InvalidName(f"every {self.name} from 0 to {HIGHEST_UNIT} exists already", errno.ENOSPC)

    def devices(self, unit: int) -> tuple[str, ...]:
        """Return the names of the devices of a unit."""
        return self.devices_of(f"{self.name}{unit}")

    def devices_of(self, interface: str) -> tuple[str, ...]:
        """Return the names of an interface's devices: ``epair7a`` and ``epair7b`` for ``epair7``."""
        return tuple(interface + suffix for suffix in self.suffixes)

    def _not_a_name(self, name: str) -> str:
        first = next(unit for unit in range(IFNAMSIZ) if unit not in self.permanent)
        form = f"{self.name} and a number, as in {quoted(f'{self.name}{first}')}"
        return f"{quoted(name)} is not a {self.noun}'s name: that is {form}"


EPAIR: Final = Cloner("epair", "pair", SIDES)
LO: Final = Cloner("lo", "loopback", permanent=frozenset({0}))
CLONERS: Final = (EPAIR, LO)


def cloner_of(name: str, cloners: Iterable[Cloner] = CLONERS) -> Cloner:
    """Return the cloner that a name is for; raises InvalidName, EINVAL, if it is for none of them."""
    known = {cloner.name: cloner for cloner in cloners}
    match = _NAME.match(name)
    cloner = known.get(match["kind"]) if match else None
    if cloner is None:
        raise InvalidName(f"{quoted(name)} is of no kind that can be created: {' and '.join(known)} are")
    return cloner


def interface_of(name: str) -> tuple[Cloner, str] | None:
    """Return the kind and the name of the interface that is called ``name`` or has a device of that name.

    None for a foreign name."""
    match = _NAME.fullmatch(name)
    if match is None or not match["unit"]:
        return None
    for cloner in CLONERS:
        if cloner.name == match["kind"] and match["suffix"] in ("", *cloner.suffixes):
            return cloner, cloner.name + match["unit"]
    return None


def order(name: str) -> tuple[str, int, str]:
    """Return the sort key of an interface or a device: by kind, then by unit, then by suffix.

    ``epair2b`` comes before ``epair10a``."""
    match = _NAME.fullmatch(name)
    return (match["kind"], int(match["unit"] or -1), match["suffix"]) if match else (name, -1, "")


def half_name(pair: str, side: Side) -> str:
    """Return a half's own name, which it keeps for life: ``epair7a``. Raises InvalidName for a bad pair."""
    EPAIR.unit_of(pair)
    return pair + side


def half_of(name: str) -> tuple[str, Side]:
    """Return the pair and the side in a half's own name; raises InvalidName if it is not one."""
    for side in SIDES:
        pair = name.removesuffix(side)
        if pair != name:
            try:
                EPAIR.unit_of(pair)
            except InvalidName as refused:
                if refused.errno == errno.ENOSPC:
                    raise
            else:
                return pair, side
    raise InvalidName(f'{quoted(name)} is not a half\'s name, as in "epair1b"')
