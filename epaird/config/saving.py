"""A configuration as the text of a file that contains only what differs from the defaults."""

from __future__ import annotations

from typing import Any, Final

import tomli_w

from epaird.config.settings import Configuration
from epaird.config.table import Settings
from epaird.names.cloners import CLONERS

HEADER: Final = "# Written by epairctl save, for epaird run --config FILE.\n\n"


def text(configuration: Configuration) -> str:
    """Return the configuration as TOML."""
    document: dict[str, Any] = {}
    for table in ("daemon", "metrics", "namespaces"):
        if keys := _changed_keys(getattr(configuration, table)):
            document[table] = keys
    # An interface has a table even if every key of it is at its default, and [lo] alone allows loopbacks.
    for kind in (cloner.name for cloner in CLONERS):
        interfaces = getattr(configuration, kind)
        if interfaces != Configuration.model_fields[kind].default:
            document[kind] = {name: _changed_keys(settings) for name, settings in interfaces.items()}
    return HEADER + tomli_w.dumps(document)


def _changed_keys(settings: Settings) -> dict[str, Any]:
    return settings.model_dump(mode="json", exclude_defaults=True)
