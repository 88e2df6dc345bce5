"""Cloners: the kinds of interfaces that can be made by name, and which unit a name means.

As in BSD, an interface is made from its kind's name, ``epair``, and gets the lowest free unit; or from a
name with a unit, ``epair7``, and gets that one.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Final

from epaird.names.grammar import IFNAMSIZ, InvalidName, quoted

_NAME: Final = re.compile(r"([a-z]+)([0-9]*)([a-z]?)")


@dataclass(frozen=True, slots=True)
class Cloner:
    """One kind of interface."""

    name: str
    """``epair``."""
    suffixes: tuple[str, ...]
    """What is appended to the name and the unit for each of its devices: ``("a", "b")``."""
    permanent: frozenset[int] = frozenset()
    """Units that exist from the start and are never destroyed."""

    def unit(self, name: str) -> int | None:
        """The unit a name asks for, None for any that is free.

        Raises InvalidName: EINVAL for what is no name of this kind, ENOSPC for one without room for a
        device's name."""
        if name == self.name:
            return None
        match = _NAME.fullmatch(name)
        if match is None or match[1] != self.name:
            raise InvalidName(f"{quoted(name)} is not {self.name}, or {self.name} and a number")
        unit, suffix = match[2], match[3]
        if not unit:
            raise InvalidName(f"{quoted(name)} has no number, as in {quoted(self.name + '0')}")
        if len(unit) > 1 and unit.startswith("0"):
            sound = self.name + (unit.lstrip("0") or "0")
            raise InvalidName(f"{quoted(name)} has a leading zero, write {quoted(sound)}")
        if suffix:
            is_ours = suffix in self.suffixes
            reason = f"is a half's name, its pair is {quoted(name[:-1])}" if is_ours else "ends in a letter"
            raise InvalidName(f"{quoted(name)} {reason}")
        return self._fitting(name)

    def lowest(self, taken: Container[int]) -> int:
        """The lowest unit that is not taken; raises InvalidName, ENOSPC, when none has a name that fits."""
        unit = 0
        while unit in taken:
            unit += 1
        return self._fitting(f"{self.name}{unit}")

    def devices(self, unit: int) -> tuple[str, ...]:
        """The names of the devices of a unit."""
        return tuple(f"{self.name}{unit}{suffix}" for suffix in self.suffixes)

    def _fitting(self, name: str) -> int:
        longest = max(map(len, self.suffixes))
        if len(name) + longest >= IFNAMSIZ:
            room = f" and its halves' letter {longest}" if longest else ""
            raise InvalidName(
                f"{quoted(name)} is too long: a device's name has at most {IFNAMSIZ - 1} characters{room}",
                errno.ENOSPC,
            )
        return int(name[len(self.name) :])


EPAIR: Final = Cloner("epair", ("a", "b"))
LO: Final = Cloner("lo", ("",), permanent=frozenset({0}))


def cloner_of(name: str, cloners: Iterable[Cloner]) -> Cloner:
    """The cloner a name is for; raises InvalidName, EINVAL, when it is for none."""
    known = {cloner.name: cloner for cloner in cloners}
    match = _NAME.match(name)
    cloner = known.get(match[1]) if match else None
    if cloner is None:
        raise InvalidName(f"{quoted(name)} is of no kind that can be made: {' and '.join(known)} are")
    return cloner
