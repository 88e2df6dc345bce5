"""Reading of the configuration file, which reports every error in it at once."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from epaird.config import consistency
from epaird.config.conflict import Conflict
from epaird.config.refusals import Refusal, refusals
from epaird.config.settings import Configuration
from epaird.config.syntax import lowered, syntax_problem
from epaird.config.values import Location, dotted
from epaird.names.grammar import quoted

MAX_BYTES: Final = 1 << 24
"""Largest size of a file in bytes: some 60,000 pairs."""
_BLANK: Final = b" \t\r\n\f\v"
_BOM: Final = b"\xef\xbb\xbf"


class InvalidConfiguration(Exception):
    """A configuration that cannot be used."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        """Every error, one line each, which begins with its place in the file."""
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
    """Return the bytes of a file.

    It opens nothing but a regular file: a FIFO would wait for a writer, and opening a device may have an
    effect. Raises InvalidConfiguration."""
    name = quoted_path(path)
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            return _content(place, name)
        finally:
            os.close(place)
    except OSError as error:
        raise InvalidConfiguration([f"{name}: {lowered(error.strerror or str(error))}"]) from None
    except ValueError:  # Python refuses a NUL in a path
        raise InvalidConfiguration([f"{name}: is not a path"]) from None


def _content(place: int, name: str) -> bytes:
    """Return the bytes of the file that an O_PATH descriptor refers to. Raises OSError."""
    mode = os.fstat(place).st_mode
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise InvalidConfiguration([f"{name}: is not a regular file"])
    # Opened through the descriptor, so that it is the file that was examined.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(f"/proc/self/fd/{place}", flags), "rb") as file:
        found = file.read(MAX_BYTES + 1)
    if len(found) > MAX_BYTES:
        raise InvalidConfiguration(
            [f"{name}: is larger than {MAX_BYTES >> 20} MiB, the largest file allowed"]
        )
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
        raise InvalidConfiguration([f"{name}{syntax_problem(str(error), text)}"]) from None
    return parse(document)


def parse(document: Mapping[str, Any]) -> Configuration:
    """Return the configuration in a document that tomllib has returned; raises InvalidConfiguration."""
    refused: list[Refusal] = []
    removed: frozenset[Location] = frozenset()
    try:
        configuration = Configuration.model_validate(document)
    except ValidationError as error:
        refused = list(refusals(error))
        removed = frozenset(refusal.remove for refusal in refused)
        configuration = Configuration.model_validate(_without(document, removed, ()))
    conflicting = [
        Refusal(_as_written(conflict.location, removed), conflict.message)
        for conflict in consistency.conflicts(configuration)
        if not _rests_on(conflict, removed)
    ]
    if refused or conflicting:
        raise InvalidConfiguration(str(problem) for problem in (*refused, *conflicting))
    return configuration


def remarks(configuration: Configuration) -> tuple[str, ...]:
    """Return one line for each allowed value that may surprise; it begins with the place in the file."""
    return tuple(f"{dotted(place)}: {text}" for place, text in consistency.remarks(configuration))


def quoted_path(path: str | os.PathLike[str]) -> str:
    """Return a file's name as a message repeats it on one line, in quotes only if it needs them."""
    name = os.fspath(path)
    return name if name.isprintable() and name else quoted(name)


def _without(value: Any, removed: Collection[Location], at: Location) -> Any:  # noqa: ANN401
    """Return the part of a document at a location, without its ``removed`` parts."""
    if isinstance(value, dict):
        return {
            key: _without(part, removed, (*at, key))
            for key, part in value.items()
            if (*at, key) not in removed
        }
    if isinstance(value, list):
        return [
            _without(part, removed, (*at, index))
            for index, part in enumerate(value)
            if (*at, index) not in removed
        ]
    return value


def _as_written(location: Location, removed: Collection[Location]) -> Location:
    """Convert a location in the document without its removed parts to one in the whole document."""
    written: Location = ()
    for part in location:
        if isinstance(part, int):
            indices = [place[-1] for place in removed if place[:-1] == written]
            for index in sorted(index for index in indices if isinstance(index, int)):
                part += index <= part
        written = (*written, part)
    return written


def _rests_on(conflict: Conflict, removed: Collection[Location]) -> bool:
    """Return whether a refused value may be the whole cause of a conflict."""
    return any(
        place[: len(refused)] == refused or refused[: len(place)] == place
        for place in conflict.rests_on
        for refused in removed
    )
