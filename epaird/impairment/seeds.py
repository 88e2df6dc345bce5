"""The seeds of the two directions of a pair.

One seed is given for both. If both directions used it, segments of the same numbers would be lost. So each
direction has a seed of its own, a number of the splitmix64 sequence that starts at the given seed: the first
for what half ``a`` sends, the second for what half ``b`` sends.
"""

from __future__ import annotations

from typing import Final

from epaird.names.cloners import SIDES, Side

SEED_MAX: Final = (1 << 64) - 1
"""The largest seed."""
_GOLDEN: Final = 0x9E3779B97F4A7C15
_FIRST: Final = 0xBF58476D1CE4E5B9
_SECOND: Final = 0x94D049BB133111EB


def direction_seed(seed: int, side: Side) -> int:
    """Return the 64-bit seed of what a half transmits, for the seed that its pair was given."""
    value = (seed + _GOLDEN * (SIDES.index(side) + 1)) & SEED_MAX
    value = ((value ^ value >> 30) * _FIRST) & SEED_MAX
    value = ((value ^ value >> 27) * _SECOND) & SEED_MAX
    return value ^ value >> 31
