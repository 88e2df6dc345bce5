"""Formatting of figures for people, and the marks of an axis. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

_MARKS_LIMIT: Final = 9
_PREFIXES: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def short(value: float) -> str:
    """Format with three digits: ``352k``, ``2.63M``, ``15.9``, ``0.4``."""
    for factor, prefix in _PREFIXES:
        if abs(value) >= factor * 0.9995:
            return digits(value / factor) + prefix
    return digits(value)


def digits(value: float) -> str:
    """Format with three digits below a thousand, without decimals above; never in scientific notation."""
    if value == 0 or abs(value) >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"


def with_unit(value: float, unit: str) -> str:
    """Format with a unit: ``352 k/s``, ``34.3 Gbit/s``, ``1490 µs``."""
    if unit != "/s":
        return f"{digits(value)} {unit}"
    text = short(value)
    return f"{text[:-1]} {text[-1]}/s" if text[-1].isalpha() else f"{text} /s"


def per_cent(share: float) -> str:
    """Format a share: ``0 %``, ``0.4 %``, ``13 %``. A share above 0 is never shown as 0."""
    if share <= 0:
        return "0 %"
    if share < 0.0005:
        return "<0.1 %"
    return f"{share * 100:.1f} %" if share < 0.0995 else f"{share * 100:.0f} %"


def ticks(top: float, about: int = 5) -> Sequence[float]:
    """Return about ``about`` marks from 0 to ``top`` or just above, at 1, 2 or 5 times a power of ten."""
    if top <= 0:
        return (0.0, 1.0)
    raw = top / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= raw * 0.999)
    return tuple(step * index for index in range(math.ceil(top / step - 1e-9) + 1))


def steps(low: float, high: float) -> Sequence[float]:
    """Return a few marks of a logarithmic axis that enclose two values above 0.

    They are powers of ten and, where these are few, also 2 and 5 times a power of ten.
    """
    first, last = math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1
    for digits_of_marks in ((1, 2, 5), (1,)):
        marks = [digit * 10.0**power for power in range(first, last + 1) for digit in digits_of_marks]
        below = max(mark for mark in marks if mark <= low)
        above = min(mark for mark in marks if mark > high)
        enclosing = tuple(mark for mark in marks if below <= mark <= above)
        if len(enclosing) < _MARKS_LIMIT:
            break
    return enclosing
