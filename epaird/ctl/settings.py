"""Settings on a command line: ``mtu=9000 up=false a.netns=red``."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from typing import Any

from epaird.config.bounds import TOML, excess


class NotASetting(ValueError):
    """A word that is not a setting. ``str()`` is one line for the user."""


def settings(words: Iterable[str]) -> dict[str, Any]:
    """Return the words as a table; a dot in a key separates the name of a table. Raises NotASetting."""
    result: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        *tables, last = key.split(".")
        if not equals or not all((*tables, last)):
            raise NotASetting(f"{word!r} is not a setting, as in mtu=9000 or a.netns=red")
        if len(tables) >= TOML.depth:
            raise NotASetting(
                f"{key[:40]}...: tables are nested deeper than {TOML.depth} levels, the most allowed"
            )
        table = result
        for name in tables:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise NotASetting(f"{key} cannot be combined with {name}")
        if last in table:
            raise NotASetting(f"{key} is given twice")
        table[last] = value(text)
    return result


def value(text: str) -> Any:  # noqa: ANN401
    """Return a value of TOML: a number, true or false, a list, a table. Anything else is text."""
    if excess(text, TOML) is not None:
        return text
    try:
        document = tomllib.loads("value = " + text)
        found = document["value"]
        json.dumps(found, allow_nan=False)
    except (TypeError, ValueError):
        return text
    return found if len(document) == 1 and isinstance(found, str | bool | int | list | dict) else text
