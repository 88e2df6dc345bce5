"""The journal of the state file: the changes that were answered since the file was written.

The state file of a thousand pairs takes some 50 ms to write, so it is written at intervals. A change that a
client requested must not be lost when this process is killed right after its answer. So before the answer a
line with the changed interfaces is appended to the journal, which takes some tens of microseconds.

1. The state file has a token, and the journal begins with the token of the file that it belongs to. After the
   file was written a new journal replaces the old one. A journal with another token is ignored: the file has
   everything that is in it.
2. A line is complete or it is the last one. What follows a line that cannot be read is ignored.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from epaird.config.settings import InterfaceSettings
from epaird.control.interfaces.saved import SavedClone, SavedLoopback, SavedPair

FILE: Final = "state.journal"
KEYS: Final = {"epair": "pairs", "lo": "loopbacks"}
"""The key of each kind of interface, here and in the state file."""


class Entry(BaseModel):
    """One line: the interfaces that a change concerned, as they were then."""

    pairs: tuple[SavedPair, ...] = ()
    """Pairs that exist."""
    loopbacks: tuple[SavedLoopback, ...] = ()
    """Loopbacks that exist."""
    gone: tuple[str, ...] = ()
    """Names of pairs and loopbacks that do not."""
    withdrawn: dict[str, InterfaceSettings] = {}
    """Those of them that a request had destroyed, with their settings in the configuration."""
    macs_made: int = 0
    """Indices of hardware addresses used so far."""

    @classmethod
    def of(
        cls,
        clones: Mapping[str, Sequence[SavedClone]],
        *,
        gone: tuple[str, ...] = (),
        withdrawn: Mapping[str, InterfaceSettings] = MappingProxyType({}),
        macs_made: int = 0,
    ) -> Entry:
        """Return an entry with the ``clones`` of each kind, by the name of the kind's cloner."""
        by_key: dict[str, Any] = {KEYS[kind]: tuple(found) for kind, found in clones.items()}
        return cls(gone=gone, withdrawn=dict(withdrawn), macs_made=macs_made, **by_key)

    def line(self) -> bytes:
        """Return it in the form of the journal. Raises ValueError for what JSON cannot express."""
        return self.model_dump_json().encode() + b"\n"


def new_token() -> str:
    """Return a token that no other file has."""
    return secrets.token_hex(8)


def header(token: str) -> bytes:
    """Return the first line."""
    return token.encode() + b"\n"


class DamagedJournal(Exception):
    """A line of the journal cannot be read. ``str()`` is one line."""


def entries(data: bytes, token: str) -> Iterator[Entry]:
    """Yield the entries of a journal, none of one with another token. Raises DamagedJournal."""
    first, *lines = data.split(b"\n")
    if first != token.encode():
        return
    for number, line in enumerate(lines, 2):
        if line or number <= len(lines):
            try:
                yield Entry.model_validate_json(line)
            except ValidationError as error:
                reason = str(error).splitlines()[0]
                raise DamagedJournal(f"line {number} and what follows is not used: {reason}") from error


def combined(found: Iterable[Entry]) -> Entry:
    """Return one entry for several, in which the last one of each name wins."""
    pairs: dict[str, SavedPair] = {}
    loopbacks: dict[str, SavedLoopback] = {}
    gone: dict[str, None] = {}
    withdrawn: dict[str, InterfaceSettings] = {}
    macs_made = 0
    for entry in found:
        for name in entry.gone:
            pairs.pop(name, None)
            loopbacks.pop(name, None)
            gone[name] = None
        withdrawn |= entry.withdrawn
        pairs |= {each.name: each for each in entry.pairs}
        loopbacks |= {each.name: each for each in entry.loopbacks}
        for name in (*(each.name for each in entry.pairs), *(each.name for each in entry.loopbacks)):
            gone.pop(name, None)
            withdrawn.pop(name, None)
        macs_made = max(macs_made, entry.macs_made)
    return Entry(
        pairs=tuple(pairs.values()),
        loopbacks=tuple(loopbacks.values()),
        gone=tuple(gone),
        withdrawn=withdrawn,
        macs_made=macs_made,
    )


def merged(
    clones: Sequence[SavedClone], changed: Sequence[SavedClone], gone: Sequence[str]
) -> tuple[SavedClone, ...]:
    """Return the clones of one kind after an entry."""
    found = [each for each in clones if each.name not in gone]
    places = {each.name: place for place, each in enumerate(found)}
    for each in changed:
        if each.name in places:
            found[places[each.name]] = each
        else:
            found.append(each)
    return tuple(found)


def withdrawn(before: Mapping[str, InterfaceSettings], entry: Entry) -> dict[str, InterfaceSettings]:
    """Return the withdrawn interfaces after an entry."""
    present = {each.name for each in entry.pairs} | {each.name for each in entry.loopbacks}
    return {name: each for name, each in {**before, **entry.withdrawn}.items() if name not in present}
