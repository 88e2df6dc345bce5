"""Values and keys that the models refuse, explained in the words of the file instead of pydantic's."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from epaird.config.addressing import AddressSettings, RouteSettings
from epaird.config.impairtables import (
    LOSS_SHARE,
    LOSS_TABLE,
    CarrierPhase,
    ImpairmentSettings,
    ImpairSettings,
    LossSettings,
    PhaseSettings,
)
from epaird.config.settings import (
    Configuration,
    DaemonSettings,
    HalfSettings,
    LoopbackSettings,
    MetricsSettings,
    NamespacesSettings,
    PairSettings,
)
from epaird.config.table import Settings
from epaird.config.values import Location, dotted
from epaird.impairment.words import ALSO_CALLED
from epaird.names.cloners import EPAIR
from epaird.names.grammar import InvalidName, shown

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_ANY: Final = "*"
_TABLES: Final[tuple[tuple[tuple[str, ...], type[Settings], str], ...]] = (
    (("epair", _ANY, "impair"), ImpairSettings, "an impairment, [epair.{pair}.impair]"),
    (("daemon",), DaemonSettings, "[daemon]"),
    (("metrics",), MetricsSettings, "[metrics]"),
    (("namespaces",), NamespacesSettings, "[namespaces]"),
    (("epair", _ANY), PairSettings, "a pair, [epair.{pair}]"),
    (("epair", _ANY, _ANY), HalfSettings, "a half, [epair.{pair}.a]"),
    (("lo", _ANY), LoopbackSettings, "a loopback, [lo.lo1]"),
    (("epair", _ANY, _ANY, "impair"), ImpairSettings, "an impairment, [epair.{pair}.impair]"),
    (("impairment", _ANY), ImpairmentSettings, "a set of impairments, [impairment.lte]"),
)
"""The tables of a file: location, model, and name in a message about a key that is in a wrong table."""
_SIMILARITY: Final = 0.6
"""Least similarity, 0 to 1, of two keys of which one is a likely misspelling of the other."""
_COMPARED_MAX: Final = 64
"""Longest key, in characters, that may be a misspelling; a comparison takes time by its square."""
_INNER: Final[tuple[tuple[tuple[str, ...], type[Settings]], ...]] = (
    (("addresses", _ANY), AddressSettings),
    (("routes", _ANY), RouteSettings),
    (("impair", "schedule", _ANY), PhaseSettings),
    (("impairment", _ANY, "schedule", _ANY), PhaseSettings),
    (("schedule", _ANY), CarrierPhase),
    (("loss",), LossSettings),
)
"""Models of the tables that are values or in lists, by the end of their location."""
_EXAMPLES: Final[dict[type[Settings], str]] = {
    RouteSettings: '{ to = "default", via = "10.0.0.2" }',
    PhaseSettings: '{ at = "10s", for = "2s", loss = "100%" }',
    CarrierPhase: '{ every = "60s", for = "1s", carrier = "off" }',
}
"""Examples of the tables in a list."""
_FORMS: Final = frozenset({LOSS_TABLE, LOSS_SHARE})
"""Parts of a location that pydantic adds and that are not in the file."""
_REQUIRED: Final = {
    "to": '"default" or the network the route leads to',
    "p": 'the probability of the bad state after the good one, as in "1%"',
    "carrier": '"off"',
    "address": 'the address with its prefix length, as in "10.0.0.1/24"',
}
_ALSO_CALLED: Final = {
    **ALSO_CALLED,
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
    "nexthop": "via",
    "priority": "metric",
    "preference": "metric",
    "pointopoint": "peer",
    "socket": "control_socket",
    "address": "addresses",
    "impairment": "impair",
    "impairments": "impairment",
    "duration": "for",
    "start": "at",
    "queue": "queues",
    "epairs": "epair",
    "pair": "epair",
}
"""Other tools' words for keys of this file."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A part of the document that is refused."""

    location: Location
    """The place that is reported."""
    message: str
    """One line, without the location."""
    remove: Location = ()
    """The part to leave out of the document so that the rest can be checked."""

    def __str__(self) -> str:
        return f"{dotted(self.location)}: {self.message}"


class Removed:
    """The parts that were left out of a document so that the rest could be checked."""

    def __init__(self, locations: Iterable[Location] = ()) -> None:
        self._locations = frozenset(locations)
        self._above = {place[:end] for place in self._locations for end in range(len(place))}
        """Locations of the tables and lists that contained them."""
        self._indices: dict[Location, list[int]] = {}
        """The members that were left out of each list, in ascending order."""
        for *table, last in self._locations:
            if isinstance(last, int):
                self._indices.setdefault(tuple(table), []).append(last)
        for indices in self._indices.values():
            indices.sort()

    def without(self, value: Any, at: Location = ()) -> Any:  # noqa: ANN401
        """Return the part of a document at a location, without the removed parts."""
        if at not in self._above:
            return value
        if isinstance(value, dict):
            return {
                key: self.without(part, (*at, key))
                for key, part in value.items()
                if (*at, key) not in self._locations
            }
        if isinstance(value, list):
            return [
                self.without(part, (*at, index))
                for index, part in enumerate(value)
                if (*at, index) not in self._locations
            ]
        return value

    def as_written(self, location: Location) -> Location:
        """Convert a location in the document without its removed parts to one in the whole document."""
        written: Location = ()
        for part in location:
            if isinstance(part, int):
                for index in self._indices.get(written, ()):
                    part += index <= part
            written = (*written, part)
        return written

    def concerns(self, place: Location) -> bool:
        """Return whether a place is, contains, or is within a part that was removed."""
        return place in self._above or any(place[:end] in self._locations for end in range(len(place) + 1))


def refusals(error: ValidationError) -> Iterator[Refusal]:
    """Yield everything that the models have refused."""
    details = [_without_forms(each) for each in error.errors(include_url=False)]
    misnamed = {detail["loc"][:-1] for detail in details if _is_about_name(detail)}
    for detail in details:
        location = detail["loc"]
        if _is_about_name(detail):
            yield Refusal(location[:-1], _own_message(detail), location[:-1])
        elif detail["type"] == "extra_forbidden":
            yield Refusal(location, _about_unknown_key(location), location)
        elif location not in misnamed:
            yield Refusal(location, _message(detail), _key_or_member(location))


def _without_forms(detail: ErrorDetails) -> ErrorDetails:
    """Return a detail with the location that its value has in the file."""
    detail["loc"] = tuple(part for part in detail["loc"] if part not in _FORMS)
    return detail


def _is_about_name(detail: ErrorDetails) -> bool:
    """Return whether an interface's name was refused, rather than a value in its table."""
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
        case _:  # the other types are about tables
            return f"{shown(detail['input'])} is not a table, write {_example_table(location)}"


def _example_table(location: Location) -> str:
    if isinstance(location[-1], int):
        return _EXAMPLES[_model(location)]
    return "[epair.epair0]" if location == ("epair",) else f"[{dotted(location)}]"


def _about_unknown_key(location: Location) -> str:
    table, key = location[:-1], str(location[-1])
    known = _keys(_model(table))
    if not table and _is_pair_name(key):
        return f"unknown key, a pair is written [epair.{key}]"
    if _ALSO_CALLED.get(key) in known:
        return f"unknown key, did you mean {_ALSO_CALLED[key]}?"
    for _, owner, name in _TABLES:
        if key in _keys(owner):
            pair = dotted(table[1:2]) if len(table) > 1 and table[0] == EPAIR.name else "epair0"
            return f"unknown key here, it belongs to {name.format(pair=pair)}"
    if len(key) <= _COMPARED_MAX and (near := difflib.get_close_matches(key.lower(), known, 1, _SIMILARITY)):
        return f"unknown key, did you mean {near[0]}?"
    return f"unknown key, the keys here are {_listed(known)}"


def _is_pair_name(key: str) -> bool:
    try:
        EPAIR.check(key)
    except InvalidName:
        return False
    return True


def _keys(model: type[Settings]) -> tuple[str, ...]:
    """Return the keys of a table."""
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _listed(words: Collection[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _model(location: Location) -> type[Settings]:
    """Return the model of the table at a place."""
    if not location:
        return Configuration
    for pattern, model, _ in _TABLES:
        if _matches(pattern, location):
            return model
    return next(model for pattern, model in _INNER if _matches(pattern, location[-len(pattern) :]))


def _matches(pattern: tuple[str, ...], location: Location) -> bool:
    return len(pattern) == len(location) and all(
        wanted in (_ANY, part) for wanted, part in zip(pattern, location, strict=True)
    )


def _key_or_member(location: Location) -> Location:
    """Return the key of a refused value, or the member of a list or the table of losses that contains it.

    Without one of their keys these may be incomplete."""
    for end, part in enumerate(location, 1):
        if isinstance(part, int) or (part == "loss" and end > len(("impairment", "lte"))):
            return location[:end]
    return location
