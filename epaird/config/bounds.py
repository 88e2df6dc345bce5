"""Bounds on a text before it is parsed: its size, the depth of its tables and lists, and their number.

tomllib takes time and memory in proportion to the square of a key's depth, and recurses into each list and
table: 20 KB of ``a.a.a`` take hundreds of megabytes. So the tokens of a text are counted first, in one pass
that recognises quoted texts and comments. Up to the first error of syntax it finds what the parser finds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_BYTES: Final = 1 << 23
"""Largest size of a configuration in bytes. 10,000 pairs with every usual key take 4 MB."""
WORD_MAX: Final = 500
"""Most characters of a number, or of a key without quotes. Python refuses numbers of more digits than the
640 or more that it is configured for, and takes time by the square of their number."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of a text, and how its tokens are recognised."""

    tokens: re.Pattern[str]
    """Matches a quoted text or a run of comments and blank lines as a whole, the beginning of a word that is
    too long, or a single character of syntax."""
    depth: int
    """Most lists and tables within each other, and most parts of a key."""
    entries: int
    """Most tables, parts of keys and members of lists together."""
    tables: str = "tables"
    """Word for a table in a message."""


@dataclass(frozen=True, slots=True)
class Excess:
    """The place where a text exceeds a bound first."""

    line: int
    """Number of the line, from 1."""
    message: str
    """What was exceeded and what is allowed, in one line."""


_BASIC: Final = r'"(?:[^"\\\n]++|\\.)*+"?'
_LONG_WORD: Final = rf"(?<![\w+-])[\w+-]{{{WORD_MAX + 1}}}"  # sought at the start of a word only
_SYNTAX: Final = r"[\[\]{}=:,.]"

TOML: Final = Bounds(
    re.compile(
        r"(?:(?:\n|#[^\n]*+)[ \t]*+)++"
        r'|"""(?:[^"\\]++|\\.|"(?!""))*+"{0,5}'  # up to two quotes before the end belong to the text
        r"|'''(?:[^']++|'(?!''))*+'{0,5}"
        rf"|{_BASIC}|'[^'\n]*+'?|{_LONG_WORD}|{_SYNTAX}",
        re.DOTALL | re.ASCII,
    ),
    depth=16,
    entries=500_000,
)
"""Bounds of a configuration: three times the depth that has a meaning, and 50 entries for each of 10,000
pairs."""
JSON: Final = Bounds(
    re.compile(rf"{_BASIC}|{_LONG_WORD}|{_SYNTAX}", re.DOTALL | re.ASCII),
    depth=16,
    entries=20_000,
    tables="objects",
)
"""Bounds of the body of a request."""


def excess(text: str, bounds: Bounds) -> Excess | None:
    """Return where a text exceeds its bounds first; None if it does not."""
    depth = parts = entries = 0
    for found in bounds.tokens.finditer(text):
        first = found[0][0]
        if first in "\"'":
            continue
        if first == ".":
            parts += 1
        else:
            parts = 0
        if first in "[{":
            depth += 1
        elif first in "]}":
            depth -= 1
        elif first not in _SEPARATORS:
            return _at(found, f"a number or a key is longer than {WORD_MAX} characters, the most allowed")
        entries += first in _COUNTED
        if depth > bounds.depth or parts >= bounds.depth:
            return _at(
                found,
                f"{bounds.tables} or lists are nested deeper than {bounds.depth} levels, the most allowed",
            )
        if entries > bounds.entries:
            return _at(
                found, f"there are more than {bounds.entries} keys and members of lists, the most allowed"
            )
    return None


_SEPARATORS: Final = "=:,.\n#"
_COUNTED: Final = "=:,.[{"


def _at(found: re.Match[str], message: str) -> Excess:
    return Excess(found.string.count("\n", 0, found.start()) + 1, message)
