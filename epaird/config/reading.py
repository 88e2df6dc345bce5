"""Reading of the configuration file, which reports every error in it at once."""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from pydantic import ValidationError

from epaird.config import consistency
from epaird.config.bounds import MAX_BYTES, TOML, excess
from epaird.config.refusals import Refusal, Removed, refusals
from epaird.config.regularfile import beginning
from epaird.config.settings import Configuration
from epaird.config.syntax import lowered, syntax_problem
from epaird.config.values import dotted
from epaird.names.grammar import quoted

REPORTED_MAX: Final = 100
"""Most errors that are reported one by one; of the others only their number is."""
_BLANK: Final = b" \t\r\n\f\v"
_BOM: Final = b"\xef\xbb\xbf"


class InvalidConfiguration(Exception):
    """A configuration that cannot be used."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        """The errors, one line each, which begins with its place in the file; at most REPORTED_MAX and a
        line with the number of further ones."""
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class ConfigurationFile:
    """A file as it was read."""

    configuration: Configuration
    """The configuration in it."""
    sha256: str
    """SHA-256 of its bytes, in hexadecimal."""


def load(path: str | os.PathLike[str]) -> Configuration:
    """Return the configuration in a TOML file; raises InvalidConfiguration."""
    return read(path).configuration


def read(path: str | os.PathLike[str]) -> ConfigurationFile:
    """Read a TOML file; raises InvalidConfiguration."""
    found = content(path)
    return ConfigurationFile(decode(found, path), digest(found))


def content(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a file. Raises InvalidConfiguration."""
    name = quoted_path(path)
    try:
        found = beginning(path, MAX_BYTES + 1)
    except OSError as error:
        raise InvalidConfiguration([f"{name}: {lowered(error.strerror or str(error))}"]) from None
    except ValueError:  # Python refuses a NUL in a path
        raise InvalidConfiguration([f"{name}: is not a path"]) from None
    _check_size(found, name)
    return found


def is_blank(text: bytes) -> bool:
    """Return whether a file with these bytes has nothing in it, not even a comment."""
    return not text.removeprefix(_BOM).strip(_BLANK)


def digest(content: bytes) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def decode(content: bytes, path: str | os.PathLike[str]) -> Configuration:
    """Return the configuration in the bytes of a file, which messages call ``path``.

    Raises InvalidConfiguration."""
    name = quoted_path(path)
    _check_size(content, name)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InvalidConfiguration([f"{name}, line {line}: not UTF-8 text"]) from None
    if (found := excess(text, TOML)) is not None:
        raise InvalidConfiguration([f"{name}, line {found.line}: {found.message}"])
    try:
        document = tomllib.loads(text)
    except ValueError as error:
        raise InvalidConfiguration([f"{name}{syntax_problem(str(error), text)}"]) from None
    return parse(document)


def parse(document: Mapping[str, Any]) -> Configuration:
    """Return the configuration in a document that tomllib has returned; raises InvalidConfiguration."""
    try:
        configuration, removed = Configuration.model_validate(document), Removed()
    except ValidationError as error:
        refused = refusals(error)
        first = tuple(islice(refused, REPORTED_MAX))
        if further := sum(1 for _ in refused):
            raise InvalidConfiguration(_with_number(map(str, first), further)) from None
        removed = Removed(refusal.remove for refusal in first)
        configuration = Configuration.model_validate(removed.without(document))
    else:
        first = ()
    conflicting = _conflicts(configuration, removed)
    some = (*first, *islice(conflicting, REPORTED_MAX - len(first)))
    if some:
        raise InvalidConfiguration(_with_number(map(str, some), sum(1 for _ in conflicting)))
    return configuration


def first_lines(problems: Sequence[str]) -> list[str]:
    """Return the errors that are reported one by one, and a line with the number of the others."""
    return list(_with_number(problems[:REPORTED_MAX], len(problems) - REPORTED_MAX))


def remarks(configuration: Configuration) -> tuple[str, ...]:
    """Return one line for each allowed value that may surprise; it begins with the place in the file."""
    return tuple(f"{dotted(place)}: {text}" for place, text in consistency.remarks(configuration))


def quoted_path(path: str | os.PathLike[str]) -> str:
    """Return a file's name as a message repeats it on one line, in quotes only if it needs them."""
    name = os.fspath(path)
    return name if name.isprintable() and name else quoted(name)


def _check_size(content: bytes, name: str) -> None:
    if len(content) > MAX_BYTES:
        raise InvalidConfiguration(
            [f"{name}: is larger than {MAX_BYTES >> 20} MiB, the largest file allowed"]
        )


def _conflicts(configuration: Configuration, removed: Removed) -> Iterator[Refusal]:
    """Yield the conflicts of a configuration whose cause is none of the parts that were removed from it."""
    for conflict in consistency.conflicts(configuration):
        if not any(map(removed.concerns, conflict.rests_on)):
            yield Refusal(removed.as_written(conflict.location), conflict.message)


def _with_number(first: Iterable[str], further: int) -> Iterator[str]:
    yield from first
    if further > 0:
        yield f"and {further:,} more errors"
