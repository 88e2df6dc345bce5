"""A configuration as the text of a file that contains only what differs from the defaults.

An interface has one line where it fits, otherwise one for each table or key of it: some hundred pairs that
are alike can be read as a table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import tomli_w

from epaird.config.settings import Configuration
from epaird.config.table import Settings
from epaird.names.cloners import CLONERS, order

HEADER: Final = "# Written by epairctl save, for epaird run --config FILE.\n"
COLUMNS: Final = 150
"""Length of a line, unless a single value is longer: enough for a half with its place and its addresses."""


def text(configuration: Configuration, remarks: Iterable[str] = ()) -> str:
    """Return the configuration as TOML, after a comment for each remark, a line that prints."""
    tables: dict[str, Mapping[str, Any]] = {}
    for table in ("daemon", "metrics", "namespaces"):
        if keys := _changed_keys(getattr(configuration, table)):
            tables[table] = keys
    # An interface is listed even if every key of it is at its default, and [lo] alone allows loopbacks.
    for kind in (cloner.name for cloner in CLONERS):
        interfaces = getattr(configuration, kind)
        if interfaces != Configuration.model_fields[kind].default:
            tables[kind] = {name: _changed_keys(interfaces[name]) for name in sorted(interfaces, key=order)}
    comments = "".join(f"# {remark}\n" for remark in remarks)
    if configuration.impairment:
        tables["impairment"] = {
            name: _changed_keys(table) for name, table in configuration.impairment.items()
        }
    return (
        HEADER + comments + "".join(f"\n[{name}]\n" + "".join(_table(keys)) for name, keys in tables.items())
    )


def _changed_keys(settings: Settings) -> dict[str, Any]:
    return settings.model_dump(mode="json", exclude_defaults=True)


def _table(keys: Mapping[str, Any]) -> Iterator[str]:
    for key, value in keys.items():
        for line in _lines(key, value):
            yield line + "\n"


def _lines(key: str, value: Any) -> Iterator[str]:  # noqa: ANN401
    """Yield the lines that set a key: one where it fits, otherwise one for each key or item of the value."""
    line = f"{key} = {_inline(value)}"
    if len(line) <= COLUMNS or not value or not isinstance(value, Mapping | list):
        yield line
    elif isinstance(value, Mapping):
        for inner, each in value.items():
            yield from _lines(f"{key}.{inner}", each)
    else:
        yield f"{key} = ["
        yield from _filled([_inline(item) + "," for item in value])
        yield "]"


def _filled(items: list[str]) -> Iterator[str]:
    """Yield lines with as many items as fit."""
    line = "   "
    for item in items:
        if line.strip() and len(line) + 1 + len(item) > COLUMNS:
            yield line
            line = "   "
        line += " " + item
    yield line


def _inline(value: Any) -> str:  # noqa: ANN401
    """Return a value as TOML in one line."""
    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{key} = {_inline(each)}" for key, each in value.items()) + " }"
            if value
            else "{}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, str) and value.isprintable():  # as nearly every one: ten times as fast
        return json.dumps(value, ensure_ascii=False)
    return tomli_w.dumps({"value": value}).removeprefix("value = ").removesuffix("\n")
