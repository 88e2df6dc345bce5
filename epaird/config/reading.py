"""The configuration file: read, checked, and every problem in it told at once, in a person's words."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from epaird.config import consistency
from epaird.config.settings import (
    Configuration,
    ConfiguredHalf,
    DaemonSettings,
    HalfSettings,
    LoopbackSettings,
    MetricsSettings,
    NamespacesSettings,
    PairSettings,
    RouteSettings,
    Settings,
)
from epaird.config.values import Location, dotted, shown
from epaird.names.grammar import InvalidName, pair_unit, quoted

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = [
    "Configuration",
    "ConfiguredHalf",
    "DaemonSettings",
    "File",
    "HalfSettings",
    "InvalidConfiguration",
    "LoopbackSettings",
    "MetricsSettings",
    "NamespacesSettings",
    "PairSettings",
    "RouteSettings",
    "decode",
    "digest",
    "load",
    "parse",
    "read",
    "remarks",
]

_NEAR: Final = 0.6
"""How alike two keys must be for one to be taken for the other misspelt."""

_REQUIRED: Final = {
    "to": '"default" or the network the route leads to',
    "via": "the address of the next hop",
}
_ALSO_CALLED: Final = {
    "namespace": "netns",
    "ns": "netns",
    "ip": "addresses",
    "device": "name",
    "ifname": "name",
    "hwaddr": "mac",
    "lladdr": "mac",
    "qlen": "txqueuelen",
    "destination": "to",
    "dst": "to",
    "gateway": "via",
    "gw": "via",
    "socket": "control_socket",
    "address": "addresses",
    "epairs": "epair",
    "pair": "epair",
}
"""Other tools' words for our keys."""
_OWNERS: Final[tuple[tuple[str, type[Settings]], ...]] = (
    ("[daemon]", DaemonSettings),
    ("[metrics]", MetricsSettings),
    ("[namespaces]", NamespacesSettings),
    ("a pair, [epair.{pair}]", PairSettings),
    ("a half, [epair.{pair}.a]", HalfSettings),
    ("a loopback, [lo.lo1]", LoopbackSettings),
)
"""Where a key belongs that was found in the wrong table."""

_SYNTAX: Final = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)
_TWICE: Final = re.compile(r"Cannot declare \((.*)\) twice")
_KEY_IN_REPR: Final = re.compile(r"'([^']*)'")
_UNCLOSED: Final = "the text is not closed by a quote"
_SYNTAX_MEANS: Final = {
    "Invalid value": (
        "{} is not a value: text stands in quotes, true and false are in lower case",
        "a value is missing",
    ),
    "Expected newline or end of document after a statement": (
        "{} cannot follow what stands before it: text stands in quotes, each key has a line of its own",
        "the line is not complete",
    ),
    "Unclosed array": (
        "{} cannot stand in the list: its members are separated by commas, text stands in quotes, ] ends it",
        "the list is not closed by ]",
    ),
    "Unclosed inline table": (
        "{} cannot stand in the table: its keys are separated by commas, text stands in quotes, }} ends it",
        "the table is not closed by }",
    ),
    "Expected '=' after a key in a key/value pair": (
        "{} stands where the = after a key should",
        "a key needs = and a value after it",
    ),
    "Invalid statement": ("{} is not a key, a [table] or a # comment", "a key is missing"),
    "Cannot overwrite a value": ("this key is set twice",) * 2,
    "Expected ']' at the end of a table declaration": ("the table's name is not closed by ]",) * 2,
    "Illegal character '\\n'": (_UNCLOSED,) * 2,
    "Unterminated string": (_UNCLOSED,) * 2,
    'Expected "\'"': (_UNCLOSED,) * 2,
}
"""tomllib's message: what it means before the rest of the line, and at a line's end."""


class InvalidConfiguration(Exception):
    """A configuration that cannot be used."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        """Every problem, one line each, keyed by its place in the file."""
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class _Problem:
    location: Location
    message: str
    remove: Location = ()
    """What to leave out of the document so that the rest can be looked at."""

    def __str__(self) -> str:
        return f"{dotted(self.location)}: {self.message}"


@dataclass(frozen=True, slots=True)
class File:
    """A file as it was read."""

    configuration: Configuration
    sha256: str
    """Of its bytes, in hexadecimal."""


def load(path: str | os.PathLike[str]) -> Configuration:
    """The configuration in a TOML file; raises InvalidConfiguration."""
    return read(path).configuration


def read(path: str | os.PathLike[str]) -> File:
    """A TOML file; raises InvalidConfiguration."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        problem = f"{quoted_path(path)}: {_lowered(error.strerror or str(error))}"
        raise InvalidConfiguration([problem]) from None
    return File(decode(content, path), digest(content))


def digest(content: bytes) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def decode(content: bytes, path: str | os.PathLike[str]) -> Configuration:
    """The configuration in the bytes of a file, which messages call ``path``; raises InvalidConfiguration."""
    name = quoted_path(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InvalidConfiguration([f"{name}, line {line}: not UTF-8 text"]) from None
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise InvalidConfiguration([f"{name}: lists or tables nested too deep"]) from None
    except ValueError as error:
        raise InvalidConfiguration([f"{name}{_syntax_problem(str(error), text)}"]) from None
    return parse(document)


def parse(document: Mapping[str, Any]) -> Configuration:
    """The configuration in a document as tomllib gives it; raises InvalidConfiguration."""
    refused: list[_Problem] = []
    gone: frozenset[Location] = frozenset()
    try:
        configuration = Configuration.model_validate(document)
    except ValidationError as error:
        refused = list(_explained(error))
        gone = frozenset(problem.remove for problem in refused)
        configuration = Configuration.model_validate(_without(document, gone, ()))
    conflicting = [
        _Problem(_as_written(conflict.location, gone), conflict.message)
        for conflict in consistency.conflicts(configuration)
        if not _rests_on(conflict, gone)
    ]
    if refused or conflicting:
        raise InvalidConfiguration(str(problem) for problem in (*refused, *conflicting))
    return configuration


def remarks(configuration: Configuration) -> tuple[str, ...]:
    """What is allowed and may still surprise, one line each, keyed by its place in the file."""
    return tuple(f"{dotted(place)}: {text}" for place, text in consistency.remarks(configuration))


def quoted_path(path: str | os.PathLike[str]) -> str:
    """A file's name as one line of a message repeats it, in quotes only where it needs them."""
    name = os.fspath(path)
    return name if name.isprintable() and name else quoted(name)


def _explained(error: ValidationError) -> Iterator[_Problem]:
    """Each thing that was refused, in our own words instead of pydantic's."""
    details = error.errors(include_url=False)
    misnamed = {detail["loc"][:-1] for detail in details if _is_about_name(detail)}
    for detail in details:
        location = detail["loc"]
        if _is_about_name(detail):
            yield _Problem(location[:-1], _own_message(detail), location[:-1])
        elif detail["type"] == "extra_forbidden":
            yield _Problem(location, _about_unknown_key(location), location)
        elif location not in misnamed:
            yield _Problem(location, _message(detail), _key_or_member(location))


def _is_about_name(detail: ErrorDetails) -> bool:
    """Whether an interface's name was refused, not what stands under it."""
    return detail["type"] == "value_error" and detail["loc"][-1] == "[key]"


def _own_message(detail: ErrorDetails) -> str:
    return str(detail["ctx"]["error"])


def _message(detail: ErrorDetails) -> str:
    location = detail["loc"]
    match detail["type"]:
        case "value_error":
            return _own_message(detail)
        case "missing":
            key = str(location[-1])
            return f"missing, it is {_REQUIRED[key]}"
        case _:  # the only types left are the containers'
            return f"{shown(detail['input'])} is not a table, write {_example_table(location)}"


def _example_table(location: Location) -> str:
    if isinstance(location[-1], int):
        return '{ to = "default", via = "10.0.0.2" }'
    return "[epair.epair0]" if location == ("epair",) else f"[{dotted(location)}]"


def _about_unknown_key(location: Location) -> str:
    table, key = location[:-1], str(location[-1])
    known = _table(table).model_fields
    if not table and _is_pair_name(key):
        return f"unknown key, a pair is written [epair.{key}]"
    if _ALSO_CALLED.get(key) in known:
        return f"unknown key, did you mean {_ALSO_CALLED[key]}?"
    for place, owner in _OWNERS:
        if key in owner.model_fields:
            pair = dotted(table[1:2]) or "epair0"
            return f"unknown key here, it belongs to {place.format(pair=pair)}"
    if near := difflib.get_close_matches(key.lower(), known, 1, _NEAR):
        return f"unknown key, did you mean {near[0]}?"
    return f"unknown key, the keys here are {_listed(known)}"


def _is_pair_name(key: str) -> bool:
    try:
        pair_unit(key)
    except InvalidName:
        return False
    return True


def _listed(words: Collection[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _table(location: Location) -> type[Settings]:
    """The model of the table at a place."""
    match location:
        case ():
            return Configuration
        case ("daemon",):
            return DaemonSettings
        case ("metrics",):
            return MetricsSettings
        case ("namespaces",):
            return NamespacesSettings
        case ("epair", _):
            return PairSettings
        case ("epair", _, _):
            return HalfSettings
        case ("lo", _):
            return LoopbackSettings
        case _:
            return RouteSettings


def _key_or_member(location: Location) -> Location:
    """The key of a refused value, or the member of a list that it is in."""
    for end, part in enumerate(location, 1):
        if isinstance(part, int):
            return location[:end]
    return location


def _without(value: Any, gone: Collection[Location], at: Location) -> Any:  # noqa: ANN401
    """The document less some of its parts."""
    if isinstance(value, dict):
        return {
            key: _without(part, gone, (*at, key)) for key, part in value.items() if (*at, key) not in gone
        }
    if isinstance(value, list):
        return [
            _without(part, gone, (*at, index)) for index, part in enumerate(value) if (*at, index) not in gone
        ]
    return value


def _as_written(location: Location, gone: Collection[Location]) -> Location:
    """A location in the document less its refused parts, as a location in the whole document."""
    written: Location = ()
    for part in location:
        if isinstance(part, int):
            left_out = [place[-1] for place in gone if place[:-1] == written]
            for index in sorted(index for index in left_out if isinstance(index, int)):
                part += index <= part
        written = (*written, part)
    return written


def _rests_on(conflict: consistency.Conflict, gone: Collection[Location]) -> bool:
    """Whether a refused value may be the conflict's whole cause."""
    return any(
        place[: len(refused)] == refused or refused[: len(place)] == place
        for place in conflict.rests_on
        for refused in gone
    )


def _syntax_problem(message: str, text: str) -> str:
    """Where TOML's grammar was broken and how: ``, line 3, column 9: ...``."""
    match = _SYNTAX.fullmatch(message)
    if match is None:
        # Python's own refusal to read a number of thousands of digits, which names no place.
        return ": a number has too many digits"
    lines = text.replace("\r\n", "\n").split("\n")
    line, column = int(match[2] or len(lines)), int(match[3] or len(lines[-1]) + 1)
    rest = lines[line - 1][column - 1 :].strip()
    return f", line {line}, column {column}: {_in_plain_words(match[1], rest)}"


def _in_plain_words(message: str, rest: str) -> str:
    """What tomllib's message means to someone who does not know TOML's grammar."""
    if declared := _TWICE.fullmatch(message):
        return f"[{dotted(tuple(re.findall(_KEY_IN_REPR, declared[1])))}] stands here twice"
    known = _SYNTAX_MEANS.get(message)
    if known is None:
        return _lowered(message) if message.isprintable() else quoted(message)
    with_rest, at_end = known
    return with_rest.format(quoted(rest)) if rest else at_end


def _lowered(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
