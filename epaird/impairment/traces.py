"""Traces of a link's capacity, in the text format of mahimahi.

Each line is a whole number of milliseconds: a moment at which 1,504 bytes can be delivered. The numbers do
not decrease, and several equal ones are several opportunities. After the last one the trace starts again.

An error names the line and never repeats the text: the file may be one that its reader must not see.
"""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Final

OPPORTUNITIES_MAX: Final = 1_000_000
"""Opportunities of the longest trace: 20 minutes at 10 Mbit/s."""
PERIOD_MAX_MS: Final = 86_400_000
"""Milliseconds of the longest trace: a day."""
_DIGITS_MAX: Final = 20


class TraceError(ValueError):
    """A text that is not a trace. ``str()`` is one line, which begins with the number of the line."""


def parse(text: bytes) -> array[int]:
    """Return the opportunities in nanoseconds, unsigned 64-bit numbers; the last one is the period.

    Raises TraceError."""
    found = array("Q")
    last = 0
    if text.count(b"\n") > OPPORTUNITIES_MAX:
        raise _too_long(OPPORTUNITIES_MAX + 1)
    for number, line in enumerate(text.split(b"\n"), 1):
        digits = line.strip(b" \t\r")
        if not digits:
            continue
        if not digits.isdigit() or len(digits) > _DIGITS_MAX:
            raise TraceError(f"line {number}: not a whole number of milliseconds")
        moment = int(digits)
        if moment < last:
            raise TraceError(f"line {number}: less than the line before, the numbers must not decrease")
        if moment > PERIOD_MAX_MS:
            raise TraceError(f"line {number}: more than {PERIOD_MAX_MS} milliseconds, the most allowed")
        if len(found) == OPPORTUNITIES_MAX:
            raise _too_long(number)
        found.append(moment * 1_000_000)
        last = moment
    if not last:
        raise TraceError("no line has a number above 0: the last number is the duration of the trace")
    return found


def located(trace: str, configuration: Path) -> Path:
    """Return the path of a trace; a relative one starts at the directory of the configuration's file."""
    return configuration.parent / trace


def _too_long(line: int) -> TraceError:
    return TraceError(f"line {line}: more than {OPPORTUNITIES_MAX} lines, the most allowed")
