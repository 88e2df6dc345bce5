"""Rules between the keys of impairments, for each direction as its tables are merged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from epaird.config.conflict import Conflict
from epaird.config.settings import Configuration, ConfiguredHalf
from epaird.config.values import Location
from epaird.impairment.effective import UnknownPreset, preset_keys
from epaird.impairment.rules import Fault, exclusions, faults, notes, schedule_faults
from epaird.impairment.tables import merged
from epaird.names.cloners import EPAIR


def impossible_impairments(configuration: Configuration) -> Iterator[Conflict]:
    """Yield combinations of keys that cannot be, each once, and sets that do not exist."""
    found: dict[tuple[Location, str], Conflict] = {}
    for name, table in configuration.impairment.items():
        for conflict in _of_set(("impairment", name), table.given()):
            found.setdefault((conflict.location, conflict.message), conflict)
    for direction in _directions(configuration):
        for conflict in direction.conflicts():
            found.setdefault((conflict.location, conflict.message), conflict)
    yield from found.values()
    for name, pair in configuration.epair.items():
        for fault in schedule_faults(phase.given() for phase in pair.schedule):
            yield Conflict((EPAIR.name, name, "schedule", *fault.place), fault.message)


def surprising_impairments(configuration: Configuration) -> Iterator[tuple[Location, str]]:
    """Yield allowed combinations that may surprise, each once: the place, and one line."""
    found: dict[tuple[Location, str], None] = {}
    for direction in _directions(configuration):
        for key, message in notes(direction.keys):
            found[direction.place(key), message] = None
        if configuration.epair[direction.half.pair].queues > 1:
            message = "one worker has all queues of an impaired pair"
            found[(EPAIR.name, direction.half.pair, "queues"), message] = None
    yield from found
    for name, pair in configuration.epair.items():
        if pair.schedule and pair.carrier == "off":
            message = 'has no effect, with carrier = "off" the halves never have a carrier'
            yield (EPAIR.name, name, "schedule"), message


def traces(configuration: Configuration) -> Iterator[tuple[Location, str]]:
    """Yield the traces that are in use or in a named set, each once: the place, and the path."""
    found = {
        ("impairment", name, "trace"): table.trace
        for name, table in configuration.impairment.items()
        if table.trace
    }
    in_tables: dict[Location, str] = {
        direction.place("trace"): direction.keys["trace"]
        for direction in _directions(configuration)
        if direction.keys.get("trace")
    }
    yield from (in_tables | found).items()


def _of_set(place: Location, keys: dict[str, Any]) -> Iterator[Conflict]:
    """Yield what cannot be in a named set, whatever the tables have that use it."""
    for fault in exclusions(keys):
        rests_on = tuple((*place, key) for key in (*fault.others, *fault.place))
        yield Conflict((*place, *fault.place), fault.message, rests_on)
    for fault in schedule_faults(keys.get("schedule", ())):
        yield Conflict((*place, "schedule", *fault.place), fault.message)


@dataclass(frozen=True, slots=True)
class _Direction:
    """What one half transmits."""

    half: ConfiguredHalf
    pair: dict[str, Any]
    """Keys of the pair's table."""
    own: dict[str, Any]
    """Keys of the half's table."""
    presets: dict[str, dict[str, Any]]
    """The sets of the file."""

    @property
    def preset(self) -> str:
        """Name of the set that it is based on."""
        found: str = self.own.get("preset", self.pair.get("preset", ""))
        return found

    @property
    def keys(self) -> dict[str, Any]:
        """The keys that hold. Raises UnknownPreset."""
        return merged((preset_keys(self.preset, self.presets), self.pair, self.own))

    def conflicts(self) -> Iterator[Conflict]:
        """Yield what cannot be."""
        try:
            keys = self.keys
        except UnknownPreset as error:
            yield Conflict(self.place("preset"), str(error), (("impairment", self.preset),))
            return
        for fault in faults(keys):
            yield Conflict(self._place_of(fault), fault.message, tuple(self._rests_on(fault)))

    def place(self, key: str) -> Location:
        """Return the place of a key that holds: the half's table, the pair's, or the set's."""
        *pair, _ = self.half.location
        if key in self.own:
            return (*self.half.location, "impair", key)
        if key in self.pair:
            return (*pair, "impair", key)
        if key != "preset" and self.preset in self.presets:
            return ("impairment", self.preset, key)
        return self.place("preset") if key != "preset" else (*pair, "impair", key)

    def _place_of(self, fault: Fault) -> Location:
        place = self.place(str(fault.place[0]))
        return place if place[-1] == "preset" else (*place, *fault.place[1:])

    def _rests_on(self, fault: Fault) -> Iterator[Location]:
        """Yield the places at which the keys may be that a combination consists of."""
        *pair, _ = self.half.location
        for key in (str(fault.place[0]), *fault.others):
            yield (*self.half.location, "impair", key)
            yield (*pair, "impair", key)
            yield ("impairment", self.preset, key)


def _directions(configuration: Configuration) -> Iterator[_Direction]:
    """Yield the directions that have a table."""
    presets = configuration.presets
    for half in configuration.halves:
        pair, own = configuration.epair[half.pair].impair.given(), half.settings.impair.given()
        if pair or own:
            yield _Direction(half, pair, own, presets)
