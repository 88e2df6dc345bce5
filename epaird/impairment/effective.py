"""The impairment of one direction, merged from the tables that a user writes.

A half's table takes precedence over its pair's, key by key. A named set (``preset``) fills in the keys that
neither has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from epaird.impairment.compiling import line_parameters, phases_of
from epaird.impairment.presets import SHIPPED
from epaird.impairment.tables import Keys, merged
from epaird.impairment.units import octets
from epaird.ipc.impairment import LineParameters, LineSpec, Phase
from epaird.names.cloners import Side
from epaird.names.grammar import quoted

BUFFER: Final = LineSpec().buffer
"""Bytes of memory for held frames unless ``buffer`` is given."""


class UnknownPreset(ValueError):
    """A named set that is neither in the configuration nor shipped. ``str()`` is one line."""


class ImpairTable(Protocol):
    """A table of the configuration."""

    def given(self) -> dict[str, Any]:
        """Return the keys that are given, in their canonical form."""


class Impairable(Protocol):
    """The settings of a pair."""

    @property
    def impair(self) -> ImpairTable:
        """The table for both directions."""

    def half(self, side: Side, /) -> Any:  # noqa: ANN401 - a table with an ``impair`` of its own
        """Return the settings of a half, whose ``impair`` is for what it transmits."""


@dataclass(frozen=True, slots=True)
class Impairment:
    """The impairment of what one half transmits."""

    keys: Keys
    """The keys that hold, as in the file, without ``preset``: those of a named set are among them."""
    preset: str
    """Name of the set that they are based on; empty for none."""
    parameters: LineParameters
    """The keys as numbers."""
    phases: tuple[Phase, ...] = ()
    """The schedule as numbers."""
    seed: int | None = None
    """The seed that the user gave for both directions; None for a random one. See
    :func:`epaird.impairment.seeds.direction_seed`."""
    buffer: int = BUFFER
    """Bytes of memory for held frames."""
    trace: str = ""
    """Path of the trace; empty for none."""

    @property
    def nothing(self) -> bool:
        """True if no frame is ever treated differently, so that no line is needed."""
        idle = LineParameters()
        return not self.trace and all(each == idle for each in (self.parameters, *(
            phase.parameters for phase in self.phases
        )))  # fmt: skip


def impairment_of(settings: Impairable, side: Side, presets: Mapping[str, Keys]) -> Impairment:
    """Return the impairment of what a pair's half transmits.

    ``presets`` are the named sets of the configuration; those that are shipped are known anyway. Raises
    UnknownPreset. The tables must be consistent (:mod:`epaird.impairment.rules`)."""
    return from_tables(settings.impair.given(), settings.half(side).impair.given(), presets)


def from_tables(pair: Keys, half: Keys, presets: Mapping[str, Keys]) -> Impairment:
    """Return the impairment that a pair's and a half's table make, as :func:`impairment_of`."""
    name = half.get("preset", pair.get("preset", ""))
    keys = merged((preset_keys(name, presets), pair, half))
    return Impairment(
        keys,
        name,
        line_parameters(keys),
        phases_of(keys),
        keys.get("seed"),
        octets(keys["buffer"]) if "buffer" in keys else BUFFER,
        keys.get("trace", ""),
    )


def preset_keys(name: str, presets: Mapping[str, Keys]) -> Keys:
    """Return the keys of a named set, none for an empty name. Raises UnknownPreset."""
    if not name:
        return {}
    if name in presets:
        return presets[name]
    if name in SHIPPED:
        return SHIPPED[name].keys
    known = ", ".join(dict.fromkeys([*presets, *SHIPPED]))
    raise UnknownPreset(f"there is no set {quoted(name)}, the sets are {known}")
