"""Random numbers that depend on a place, not on a time.

Every decision is a function of the seed, of the stream that it belongs to, and of the place where it is made:
the number of a segment, of a bit, or of a knot of the delay. So the same traffic meets the same decisions
however it is divided into frames, whenever it comes, and whichever process continues.

The generator is splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA
2014), whose n-th number needs none of those before it.
"""

from __future__ import annotations

import math
import struct
from enum import IntEnum
from typing import Final

NEVER: Final = 1 << 62
"""A place that no traffic reaches."""

_MASK: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15
_UNIT: Final = 2.0**-53
_DOUBLE: Final = struct.Struct("=d")
_WORD: Final = struct.Struct("=Q")


class StreamNumber(IntEnum):
    """Numbers of the streams of one direction. Changing one changes what every seed decides."""

    LOSS = 0
    LOSS_STATES = 1
    BER = 2
    DUPLICATE = 3
    CORRUPT = 4
    CORRUPT_BIT = 5
    REORDER = 6
    DELAY = 7


def scale_of(probability: float) -> float:
    """Return what the logarithm of a random number is multiplied by to count failures: between minus
    infinity, for never, and 0, for always."""
    if probability >= 1:
        return 0.0
    chance = math.log1p(-probability) if probability > 0 else 0.0
    return 1 / chance if chance else -math.inf


def mixed(value: int) -> int:
    """Return a word whose bits all depend on each bit of ``value``."""
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & _MASK
    return value ^ value >> 31


def splitmix(seed: int, place: int) -> int:
    """Return the number at a place, from 0 on, of the sequence of a seed: 64 bits, like the seed."""
    return mixed((seed + _GOLDEN * (place + 1)) & _MASK)


class Stream:
    """One sequence of random numbers."""

    __slots__ = ("_origin",)

    def __init__(self, seed: int, number: int) -> None:
        """``seed`` has 64 bits; streams of different numbers are independent."""
        self._origin = splitmix(seed, number)

    def word(self, place: int) -> int:
        """Return the number of a place: 64 bits."""
        return splitmix(self._origin, place)

    def unit(self, place: int) -> float:
        """Return the number of a place: above 0, at most 1, evenly distributed."""
        return ((mixed((self._origin + _GOLDEN * (place + 1)) & _MASK) >> 11) + 1) * _UNIT

    def normal(self, place: int) -> float:
        """Return the number of a place, of the standard normal distribution (Box and Muller)."""
        return math.sqrt(-2 * math.log(self.unit(2 * place))) * math.cos(math.tau * self.unit(2 * place + 1))

    def failures(self, place: int, scale: float) -> int:
        """Return how many trials fail before the first that succeeds, of the probability with this
        :func:`scale_of`."""
        if not scale:
            return 0
        if scale == -math.inf:
            return NEVER
        value = (self._origin + _GOLDEN * (place + 1)) & _MASK
        value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & _MASK
        value = ((value ^ value >> 27) * 0x94D049BB133111EB) & _MASK
        count = math.log((((value ^ value >> 31) >> 11) + 1) * _UNIT) * scale
        return int(count) if count < NEVER else NEVER

    def fingerprint(self, *numbers: float) -> int:
        """Return a word that differs where the stream or one of the numbers differs."""
        word = self._origin
        for number in numbers:
            word = mixed(word ^ _WORD.unpack(_DOUBLE.pack(number))[0])
        return word
