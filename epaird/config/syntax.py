"""Errors in the grammar of TOML, in words for people who do not know it."""

from __future__ import annotations

import re
from typing import Final

from epaird.config.values import dotted
from epaird.names.grammar import quoted

_MESSAGE: Final = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)
"""A message of tomllib."""
_DECLARED_TWICE: Final = re.compile(r"Cannot declare \((.*)\) twice")
_KEY_IN_REPR: Final = re.compile(r"'([^']*)'")
_UNCLOSED: Final = "the text is not closed by a quote"
_MEANINGS: Final = {
    "Invalid value": (
        "{} is not a value: text needs quotes, true and false are in lower case",
        "a value is missing",
    ),
    "Expected newline or end of document after a statement": (
        "{} cannot follow what precedes it: text needs quotes, each key needs a line of its own",
        "the line is not complete",
    ),
    "Unclosed array": (
        "{} cannot be in the list: its members are separated by commas, text needs quotes, ] ends it",
        "the list is not closed by ]",
    ),
    "Unclosed inline table": (
        "{} cannot be in the table: its keys are separated by commas, text needs quotes, }} ends it",
        "the table is not closed by }",
    ),
    "Expected '=' after a key in a key/value pair": (
        "{} is where the = after a key should be",
        "a key needs = and a value after it",
    ),
    "Invalid statement": ("{} is not a key, a [table] or a # comment", "a key is missing"),
    "Cannot overwrite a value": ("this key is set twice",) * 2,
    "Expected ']' at the end of a table declaration": ("the table's name is not closed by ]",) * 2,
    "Illegal character '\\n'": (_UNCLOSED,) * 2,
    "Unterminated string": (_UNCLOSED,) * 2,
    'Expected "\'"': (_UNCLOSED,) * 2,
}
"""Meaning of tomllib's messages: before the rest of a line, and at a line's end."""


def syntax_problem(message: str, text: str) -> str:
    """Return the place and the kind of the error that tomllib's ``message`` reports in ``text``.

    It continues a line that begins with the file's name: ``, line 3, column 9: ...``."""
    match = _MESSAGE.fullmatch(message)
    if match is None:
        return f": {_meaning(message, '')}"
    lines = text.replace("\r\n", "\n").split("\n")
    line, column = int(match[2] or len(lines)), int(match[3] or len(lines[-1]) + 1)
    rest = lines[line - 1][column - 1 :].strip()
    return f", line {line}, column {column}: {_meaning(match[1], rest)}"


def lowered(sentence: str) -> str:
    """Return a sentence with its first letter in lower case."""
    return sentence[:1].lower() + sentence[1:]


def _meaning(message: str, rest: str) -> str:
    if declared := _DECLARED_TWICE.fullmatch(message):
        return f"[{dotted(tuple(re.findall(_KEY_IN_REPR, declared[1])))}] is defined twice"
    known = _MEANINGS.get(message)
    if known is None:
        return lowered(message) if message.isprintable() else quoted(message)
    with_rest, at_end = known
    return with_rest.format(quoted(rest)) if rest else at_end
