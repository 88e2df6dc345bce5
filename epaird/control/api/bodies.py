"""Bodies of requests to the API. They are strict: known keys only, each with a value of its own type."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

InterfaceSettings = Annotated[
    dict[str, Any],
    Field(
        description="Keys and values as in the configuration's table of the interface: for a pair, those of "
        "[epair.epair0], with its halves' in `a` and `b`; for a half, those of [epair.epair0.a]; for a "
        "loopback, those of [lo.lo1].",
        examples=[{"a": {"netns": "red", "mtu": 9000}}],
    ),
]


class RequestBody(BaseModel):
    """The base of all bodies."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class CreateRequest(RequestBody):
    """An interface to create."""

    name: str = Field(
        description="A kind, for the lowest free number, or a name.", examples=["epair", "epair7", "lo1"]
    )
    settings: InterfaceSettings = {}


class PatchRequest(RequestBody):
    """The half to patch to."""

    peer: str = Field(description="Name of the half.", examples=["epair5b"])
    force: bool = Field(default=False, description="Patch even if the peer is patched to another half.")


class ReloadRequest(RequestBody):
    """A request to reload the configuration."""

    dry_run: bool = Field(default=False, description="Only return what would be done.")


class PlanRequest(RequestBody):
    """A configuration to make a plan for."""

    text: str = Field(description="The configuration, TOML.", examples=["[epair.epair0]\n"])
    name: str = Field(default="the file", description="Name of it in messages.", examples=["new.toml"])
