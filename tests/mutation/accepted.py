"""The mutations that may survive, each with the reason: ``accepted.toml``.

A key is what the run prints for a survivor. One that ends with ``*`` stands for each that begins so.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

FILE: Final = Path(__file__).with_name("accepted.toml")


class Accepted:
    """The accepted survivors of one module."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        self._unused = dict(reasons)
        self._keys = tuple(reasons)

    def accepts(self, name: str) -> bool:
        """Return whether a mutation may survive; to be asked about each survivor."""
        matching = [key for key in self._keys if _matches(key, name)]
        for key in matching:
            self._unused.pop(key, None)
        return bool(matching)

    @property
    def stale(self) -> tuple[str, ...]:
        """The keys that no survivor had."""
        return tuple(self._unused)


def accepted(module: Path, file: Path = FILE) -> Accepted:
    """Return the accepted survivors of a module. Raises ValueError for an entry without a reason."""
    reasons = tomllib.loads(file.read_text()).get(str(module), {})
    for key, reason in reasons.items():
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError(f"{file.name}: {module}: {key}: needs a reason")
    return Accepted(reasons)


def _matches(key: str, name: str) -> bool:
    return name.startswith(key[:-1]) if key.endswith("*") else name == key
