"""Tables of keys by precedence: a phase's over a half's, a half's over its pair's, both over a named set.

Keys are merged one by one. Some exclude or need each other: a key that takes precedence removes those that no
longer fit, but only from the tables over which it has precedence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

Keys = Mapping[str, Any]
"""Keys of an impairment and their canonical values, only those that are given."""

OFF: Final = frozenset({"0s", "0%", "0bit", "0b", "0p", ""})
"""Canonical values that switch a key off."""
EXCLUDED: Final[Mapping[str, tuple[str, ...]]] = {
    "rate": ("trace",),
    "trace": ("rate",),
    "loss_correlation": ("loss_burst",),
    "loss_burst": ("loss_correlation",),
}
"""Keys that cannot be combined with a key."""
NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "jitter": ("delay",),
    "jitter_correlation": ("jitter",),
    "distribution": ("jitter",),
    "reorder": ("delay",),
    "loss_correlation": ("loss",),
    "loss_burst": ("loss",),
    "limit": ("rate", "trace"),
    "queue": ("rate", "trace"),
    "ecn": ("queue",),
}
"""For each key, those of which it needs one to have a meaning; needed keys come first. ``jitter`` alone has a
meaning, but not where ``delay`` is switched off."""
LOSSES: Final = ("loss", "loss_correlation", "loss_burst")
"""Keys that describe losses."""


def merged(tables: Iterable[Keys]) -> dict[str, Any]:
    """Return the keys of several tables but ``preset``; each takes precedence over those before."""
    found: dict[str, Any] = {}
    for table in tables:
        found = laid_over(found, table)
    found.pop("preset", None)
    return found


def laid_over(below: Keys, table: Keys) -> dict[str, Any]:
    """Return the keys of a table, and those of the one below it that fit."""
    gone = displaced(table, below)
    return {key: value for key, value in below.items() if key not in gone} | dict(table)


def displaced(table: Keys, below: Keys) -> frozenset[str]:
    """Return the keys of the tables below that do not fit a table which takes precedence over them."""
    gone = {key for name, value in table.items() if not is_off(value) for key in EXCLUDED.get(name, ())}
    if isinstance(table.get("loss"), Mapping):
        gone.update(LOSSES)
    off = {key for key, value in table.items() if is_off(value)}
    together = {key: value for key, value in below.items() if key not in gone} | dict(table)
    for key, needed in NEEDS.items():
        if key not in table and (off | gone).intersection(needed) and not active(together, *needed):
            gone.add(key)
            together.pop(key, None)
    return frozenset(gone & below.keys())


def is_off(value: object) -> bool:
    """Return whether a canonical value switches its key off."""
    return isinstance(value, str) and value in OFF


def active(keys: Keys, *names: str) -> bool:
    """Return whether one of these keys is given and not switched off."""
    return any(name in keys and not is_off(keys[name]) for name in names)


def merged_phase(keys: Keys, phase: Keys) -> dict[str, Any]:
    """Return the keys that hold during a phase of the schedule: its own, and the line's others.

    A phase that has ``loss`` replaces the losses of the line altogether."""
    own = {key: value for key, value in phase.items() if key not in ("at", "for", "every")}
    line = {key: value for key, value in keys.items() if key != "schedule"}
    if "loss" in own:
        line = {key: value for key, value in line.items() if key not in LOSSES}
    return merged((line, own))
