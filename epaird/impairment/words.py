"""Impairments as people type them on a command line.

Keys and values are words, ``delay 100ms loss_burst 3``, or joined, ``delay=100ms``. netem's own words are
understood too: ``delay 100ms 10ms 25% distribution normal loss gemodel 1% 30% limit 1000 seed 7``. A bare
number in them is what it is for tc: microseconds, per cent, bits per second or packets.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from epaird.impairment import netem
from epaird.impairment.netem import NotAnImpairment
from epaird.impairment.tables import EXCLUDED, LOSSES, Keys, active
from epaird.impairment.units import is_unit
from epaird.names.grammar import quoted

KEYS: Final = (
    "delay", "jitter", "jitter_correlation", "distribution", "loss", "loss_correlation", "loss_burst",
    "duplicate", "corrupt", "ber", "reorder", "rate", "limit", "queue", "ecn", "trace", "buffer", "seed",
    "schedule", "preset",
)  # fmt: skip
"""Every key of an impairment."""
ALIASES: Final[Mapping[str, str]] = {"latency": "delay", "drop": "loss", "dup": "duplicate"}
"""Other words for keys, as in netem."""
ALSO_CALLED: Final[Mapping[str, str]] = {
    "latency": "delay", "drop": "loss", "packet_loss": "loss", "plr": "loss",
    "bandwidth": "rate", "bw": "rate", "throughput": "rate", "burst": "loss_burst",
    "correlation": "jitter_correlation", "duplication": "duplicate", "corruption": "corrupt",
    "reordering": "reorder",
}  # fmt: skip
"""Other tools' words for keys, for messages about keys that do not exist."""
_REMOVED: Final = ("none", "off", "")
_NUMBER: Final = re.compile(r"-?\.?[0-9]")
_TOML_MAX: Final = 4096
"""Most characters of a list or table on the command line."""


@dataclass(frozen=True, slots=True)
class Translation:
    """The meaning of words."""

    patch: dict[str, Any]
    """The keys to set; None removes a key."""
    differences: tuple[str, ...]
    """Sentences about what differs from what the words mean to netem."""


def translated(words: Iterable[str], present: Keys | None = None) -> Translation:
    """Return the meaning of words for a line that has the keys ``present``. Raises NotAnImpairment.

    A key that cannot be combined with one that is set is removed."""
    present = present or {}
    reader = netem.Words(words)
    if reader.peek() == "netem":
        reader.take()
    patch: dict[str, Any] = {}
    while (word := reader.peek()) is not None:
        reader.take()
        for key, value in _setting(word, reader).items():
            if key in patch:
                raise NotAnImpairment(f"{key} is given twice")
            patch[key] = value
    _complete(patch, present, reader)
    return Translation(patch, tuple(dict.fromkeys(reader.differences)))


def _setting(word: str, reader: netem.Words) -> Mapping[str, Any]:
    key, equals, text = word.partition("=")
    key = ALIASES.get(key, key)
    if key not in (*KEYS, *netem.FORMS):
        raise NotAnImpairment(_about_unknown(key))
    if equals:
        return {key: _value(_known(key), text)}
    form = netem.FORMS.get(key)
    following = reader.peek()
    if form is not None and following not in _REMOVED and not _is_own(key, following):
        return form(reader)
    if following is None:
        raise NotAnImpairment(f"{key} needs a value after it")
    reader.take()
    return {key: _value(key, following)}


def _known(key: str) -> str:
    if key not in KEYS:
        raise NotAnImpairment(_about_unknown(key))
    return key


def _is_own(key: str, following: str | None) -> bool:
    """Return whether a word that netem has, too, is followed by a value that only epaird has."""
    if following is None:
        return False
    return following.startswith("{") or (key == "ecn" and following in ("true", "false"))


def _value(key: str, text: str) -> Any:  # noqa: ANN401
    """Return the value of a key as the configuration has it; None for one that is removed."""
    if text in _REMOVED:
        return None
    if key == "ecn" and text in ("true", "false"):
        return text == "true"
    if key == "seed" and text.isascii() and text.isdecimal() and len(text) <= 20:
        return int(text)
    if text.startswith(("{", "[")):
        return _table(key, text)
    return text


def _table(key: str, text: str) -> Any:  # noqa: ANN401
    try:
        if len(text) > _TOML_MAX:
            raise ValueError(text)
        document = tomllib.loads(f"value = {text}")
        json.dumps(document, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        document = {}
    if len(document) != 1:
        raise NotAnImpairment(f"{key}: {quoted(text)} is neither a list nor a table of TOML")
    return document["value"]


def _about_unknown(word: str) -> str:
    plain = word[:64].lower().removeprefix("impair.").replace("-", "_")
    if is_unit(plain):
        return f"{quoted(word)} is not a key: write a value and its unit without a space, as in delay 100ms"
    if _NUMBER.match(word):
        return f"{quoted(word)} is not a key: a value follows the key that it is for, as in delay 100ms"
    if plain in ALSO_CALLED:
        return f"{quoted(word)} is not a key, did you mean {ALSO_CALLED[plain]}?"
    if near := difflib.get_close_matches(plain, KEYS, 1, 0.6):
        return f"{quoted(word)} is not a key, did you mean {near[0]}?"
    return f"{quoted(word)} is not a key, the keys are {', '.join(KEYS)}"


def _complete(patch: dict[str, Any], present: Keys, reader: netem.Words) -> None:
    """Add what follows from the words together: netem's defaults, and keys that have to go."""
    then = {key: value for key, value in {**present, **patch}.items() if value is not None}
    if reader.netem_jitter and "distribution" not in then:
        patch["distribution"] = "uniform"
        reader.differences.append(netem.UNIFORM)
    if reader.netem_limit and not active(then, "rate", "trace"):
        del patch["limit"]
        reader.differences.remove(netem.SEGMENT_LIMIT)
        reader.differences.append(netem.NO_QUEUE)
    for key, value in tuple(patch.items()):
        if value is None:
            continue
        excluded = [*EXCLUDED.get(key, ())]
        if key == "loss" and isinstance(value, Mapping):
            excluded += LOSSES[1:]
        for other in excluded:
            if other in present and other not in patch:
                patch[other] = None
