"""The base of the models in :mod:`epaird.client`.

They are frozen dataclasses, which pydantic serializes in the daemon. ``epairctl`` does without pydantic: to
import it takes longer than most commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self


class Model:
    """A value that the API answers with. Each subclass is a frozen dataclass."""

    # Read by pydantic, in the daemon: the docstrings are the descriptions in the OpenAPI document.
    __pydantic_config__ = {  # noqa: RUF012
        "use_attribute_docstrings": True,
        "json_schema_serialization_defaults_required": True,
    }

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Return the value that a JSON document of the API has; unknown keys are ignored.

        Raises ValueError if it is another document."""
        try:
            return cls(**cls.arguments(document))
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not a {cls.__name__}: {error}") from error

    @classmethod
    def arguments(cls, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields' values in a JSON document, by name; a model with models in it parses those."""
        fields: Mapping[str, object] = cls.__dict__["__dataclass_fields__"]
        return {name: value for name, value in document.items() if name in fields}
