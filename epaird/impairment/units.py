"""Values with units: durations, percentages, rates and sizes.

The units are those of tc(8): k is 1000 in rates and 1024 in sizes, ``bit`` is a bit and ``bps`` a byte per
second. A reader returns the canonical text of a value, so that equal values are equal texts: ``"0.1s"`` is
``"100ms"``. It raises ValueError with one line that repeats the value and states what is allowed. The
functions below the readers return the number that such a text stands for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from epaird.ipc.impairment import LONGEST_NS
from epaird.names.grammar import shown

_VALUE: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18}) ?([a-zA-Z%µ]*)")
_DECIMALS: Final = 3
"""Most digits behind the point in a canonical text, before a smaller unit is used."""
_LONGEST_NUMBER: Final = 18

TIMES: Final[Mapping[str, int]] = {
    "ns": 1, "nsec": 1, "nsecs": 1,
    "us": 10**3, "µs": 10**3, "usec": 10**3, "usecs": 10**3,
    "ms": 10**6, "msec": 10**6, "msecs": 10**6,
    "s": 10**9, "sec": 10**9, "secs": 10**9,
    "m": 60 * 10**9, "min": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
"""Nanoseconds of each unit of time. tc has no minutes and hours, which schedules need."""
_PREFIXES: Final[Mapping[str, int]] = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12} | {
    f"{prefix}i": 1024**power for power, prefix in enumerate("kmgt", 1)
}
RATES: Final[Mapping[str, int]] = {
    prefix + unit: factor * bits
    for unit, bits in (("bit", 1), ("bps", 8))
    for prefix, factor in _PREFIXES.items()
}
"""Bits per second of each unit of a rate, in lower case; ``bps`` is bytes per second, as in tc."""
SIZES: Final[Mapping[str, int]] = {"b": 1} | {
    prefix + unit: 1024**power // bits
    for unit, bits in (("", 1), ("b", 1), ("ib", 1), ("bit", 8))
    for power, prefix in enumerate("kmg", 1)
}
"""Bytes of each unit of a size, in lower case."""
PACKETS: Final = ("p", "packet", "packets")
"""Units of a limit in segments."""


@dataclass(frozen=True, slots=True)
class Duration:
    """Reader of durations."""

    least: int = 0
    """The shortest duration that is accepted, in nanoseconds."""
    most: int = 60 * 10**9
    """The longest duration that is accepted, in nanoseconds."""

    def __call__(self, value: object) -> str:
        """Return the canonical text; raises ValueError."""
        number, unit = _split(value)
        if number is not None and not unit:
            if number == 0 and isinstance(value, str):
                unit = "s"
            else:
                raise ValueError(f'{shown(value)} has no unit, as in "{_plain(number)}ms"')
        if number is None or unit not in TIMES:
            raise ValueError(f'{shown(value)} is not a duration, as in "100ms": the units are us, ms and s')
        found = round(number * TIMES[unit])
        _check_range(value, found, self.least, self.most, duration)
        return duration(found)


PERIOD: Final = Duration(10**6, LONGEST_NS)
"""Reader of durations for which something is to apply, or after which it is to begin again."""


@dataclass(frozen=True, slots=True)
class Percentage:
    """Reader of probabilities and correlations, as percentages."""

    below: bool = False
    """True to refuse 100 %."""

    def __call__(self, value: object) -> str:
        """Return the canonical text; raises ValueError."""
        number, unit = _split(value)
        if number is not None and not unit and (number or not isinstance(value, str)):
            share = f', or "{_plain(number * 100)}%" for the fraction' if number <= 1 else ""
            raise ValueError(f'{shown(value)} has no unit, write "{_plain(number)}%" for percent{share}')
        if number is None or unit not in ("%", ""):
            raise ValueError(f'{shown(value)} is not a percentage, as in "1%"')
        if number > 100 or (self.below and number == 100):
            limit = "is not less than 100%" if self.below else "is more than 100%"
            raise ValueError(f"{shown(value)} {limit}")
        return f"{_plain(number)}%"


@dataclass(frozen=True, slots=True)
class BitRate:
    """Reader of rates, and of 0 for none."""

    least: int = 1000
    """The lowest rate that is accepted, in bits per second."""
    most: int = 10**12
    """The highest rate that is accepted, in bits per second."""

    def __call__(self, value: object) -> str:
        """Return the canonical text; raises ValueError."""
        number, unit = _split(value)
        if number == 0 and isinstance(value, str) and unit.lower() in ("", *RATES):
            return rate(0)
        if number is not None and not unit:
            raise ValueError(f'{shown(value)} has no unit, as in "{_plain(number)}mbit"')
        if number is None or unit.lower() not in RATES:
            allowed = "the units are bit, kbit, mbit and gbit, or bps, kbps, mbps and gbps for bytes"
            raise ValueError(f'{shown(value)} is not a rate, as in "10mbit": {allowed}')
        found = round(number * RATES[unit.lower()])
        _check_range(value, found, self.least, self.most, rate)
        return rate(found)


@dataclass(frozen=True, slots=True)
class Size:
    """Reader of sizes in bytes."""

    least: int = 0
    """The smallest size that is accepted, in bytes."""
    most: int = 1 << 36
    """The largest size that is accepted, in bytes."""
    packets: int = 0
    """The largest number of packets that is accepted instead; 0 for none."""

    def __call__(self, value: object) -> str:
        """Return the canonical text; raises ValueError."""
        number, unit = _split(value)
        unit = unit.lower()
        if number is not None and not unit:
            packets = f', or "{_plain(number)}p" for packets' if self.packets else ""
            raise ValueError(f'{shown(value)} has no unit, as in "{_plain(number)}kb"{packets}')
        if number is not None and unit in PACKETS and self.packets:
            if number != int(number) or number > self.packets:
                raise ValueError(f"{shown(value)} is not a whole number of packets up to {self.packets}")
            return f"{int(number)}p"
        if number is None or unit not in SIZES:
            example = 'as in "64kb" or "100p"' if self.packets else 'as in "64mb"'
            packets = ", p is packets" if self.packets else ""
            raise ValueError(f"{shown(value)} is not a size, {example}: the units are b, kb and mb{packets}")
        found = round(number * SIZES[unit])
        _check_range(value, found, self.least, self.most, size)
        return size(found)


def duration(nanoseconds: int) -> str:
    """Return the canonical text of a duration."""
    if nanoseconds == 0:
        return "0s"
    return _written(nanoseconds, (("s", 10**9), ("ms", 10**6), ("us", 10**3), ("ns", 1)))


def rate(bits: int) -> str:
    """Return the canonical text of a rate in bits per second."""
    return _written(bits, (("gbit", 10**9), ("mbit", 10**6), ("kbit", 10**3), ("bit", 1)))


def size(octets: int) -> str:
    """Return the canonical text of a size in bytes."""
    return _written(octets, (("gb", 1 << 30), ("mb", 1 << 20), ("kb", 1 << 10), ("b", 1)))


def percentage(share: float) -> str:
    """Return a probability as a percentage of at most six digits."""
    return f"{_plain(Decimal(f'{share * 100:.6g}'))}%"


def nanoseconds(text: str) -> int:
    """Return the nanoseconds of a canonical duration."""
    number, unit = _split(text)
    return round((number or 0) * TIMES[unit])


def probability(text: str) -> float:
    """Return the probability that a canonical percentage stands for."""
    number, _ = _split(text)
    return float((number or Decimal(0)) / 100)


def bits_per_second(text: str) -> int:
    """Return the bits per second of a canonical rate."""
    number, unit = _split(text)
    return round((number or 0) * RATES[unit])


def octets(text: str) -> int:
    """Return the bytes of a canonical size."""
    number, unit = _split(text)
    return round((number or 0) * SIZES[unit])


def packets(text: str) -> int | None:
    """Return the packets of a canonical limit; None for one in bytes."""
    number, unit = _split(text)
    return int(number or 0) if unit == "p" else None


def _split(value: object) -> tuple[Decimal | None, str]:
    """Return the number and the unit of a value; no number if it is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None, ""
    text = value if isinstance(value, str) else _number_text(value)
    match = _VALUE.fullmatch(text)
    return (Decimal(match[1]), match[2]) if match is not None else (None, "")


def _number_text(value: float) -> str:
    """Return a number without an exponent; an empty text if it is too long for a value."""
    if isinstance(value, int):
        return str(value) if 0 <= value < 10**_LONGEST_NUMBER else ""
    if not 1e-9 < value < 1e9:
        return "0" if value == 0 else ""
    return f"{Decimal(str(value)):f}"


def _plain(number: Decimal) -> str:
    """Return a number without an exponent and without needless zeros."""
    whole, _, fraction = f"{number:f}".partition(".")
    fraction = fraction.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{fraction}" if fraction else "")


def _written(amount: int, units: tuple[tuple[str, int], ...]) -> str:
    """Return an amount in the largest unit in which it has a short number of at least 1."""
    for unit, factor in units:
        number = Decimal(amount) / factor
        if amount >= factor and number == round(number, _DECIMALS):
            return _plain(number) + unit
    return f"0{units[-1][0]}"


def _check_range(value: object, found: int, least: int, most: int, written: Callable[[int], str]) -> None:
    """Refuse an amount that is out of range."""
    if found < least:
        raise ValueError(f"{shown(value)} is less than {written(least)}, the least allowed")
    if found > most:
        raise ValueError(f"{shown(value)} is more than {written(most)}, the most allowed")
