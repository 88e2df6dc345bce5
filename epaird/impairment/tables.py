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
DEPENDENT: Final[Mapping[str, tuple[str, ...]]] = {
    "delay": ("jitter", "jitter_correlation", "distribution", "reorder"),
    "jitter": ("jitter_correlation", "distribution"),
    "loss": ("loss_correlation", "loss_burst"),
    "rate": ("limit", "queue", "ecn"),
    "trace": ("limit", "queue", "ecn"),
}
"""Keys that have no meaning where a key is switched off."""
LOSSES: Final = ("loss", "loss_correlation", "loss_burst")
"""Keys that describe losses."""


def merged(tables: Iterable[Keys]) -> dict[str, Any]:
    """Return the keys of several tables but ``preset``; each takes precedence over those before."""
    found: dict[str, Any] = {}
    for table in tables:
        for key in displaced(table):
            found.pop(key, None)
        found |= table
    found.pop("preset", None)
    return found


def displaced(table: Keys) -> tuple[str, ...]:
    """Return the keys of other tables that do not fit a table that takes precedence over them."""
    keys: list[str] = []
    for key, value in table.items():
        if is_off(value):
            keys += DEPENDENT.get(key, ())
        else:
            keys += EXCLUDED.get(key, ())
    if isinstance(table.get("loss"), Mapping):
        keys += LOSSES
    return tuple(keys)


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
