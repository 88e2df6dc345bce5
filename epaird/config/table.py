"""The base of the models of the configuration's tables."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A table of the file. It is frozen and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
