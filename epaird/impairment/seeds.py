"""The seeds of the two directions of a pair.

One seed is given for both. If both directions used it, segments of the same numbers would be lost. So each
direction has a seed of its own, a number of the splitmix64 sequence that starts at the given seed: the first
for what half ``a`` sends, the second for what half ``b`` sends.
"""

from __future__ import annotations

from typing import Final

from epaird.dataplane.impair.streams import splitmix
from epaird.names.cloners import SIDES, Side

SEED_MAX: Final = (1 << 64) - 1
"""The largest seed."""


def direction_seed(seed: int, side: Side) -> int:
    """Return the 64-bit seed of what a half transmits, for the seed that its pair was given."""
    return splitmix(seed, SIDES.index(side))
