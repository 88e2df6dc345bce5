"""A configuration as the text of a file that says it: only what is not so by default."""

from __future__ import annotations

from typing import Any, Final

import tomli_w

from epaird.config.settings import Configuration, Settings

HEADER: Final = "# What epairctl save found, to be read by epaird run --config FILE.\n\n"


def text(configuration: Configuration) -> str:
    """TOML."""
    document: dict[str, Any] = {}
    for table in ("daemon", "metrics", "namespaces"):
        if said := _said(getattr(configuration, table)):
            document[table] = said
    # An interface stands in the file though nothing is said of it.
    if configuration.epair:
        document["epair"] = {name: _said(each) for name, each in configuration.epair.items()}
    if configuration.lo is not None:
        document["lo"] = {name: _said(each) for name, each in configuration.lo.items()}
    return HEADER + tomli_w.dumps(document)


def _said(settings: Settings) -> dict[str, Any]:
    return settings.model_dump(mode="json", exclude_defaults=True)
