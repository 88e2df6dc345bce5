"""Impairments as the API answers with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from epaird.client.base import Model


@dataclass(frozen=True)
class DirectionImpairment(Model):
    """The impairment of what one half transmits."""

    device: str
    """The half that transmits: `epair0a`."""
    peer: str
    """The half that receives; empty where it is patched to none."""
    impairment: dict[str, Any] = field(default_factory=dict)
    """The keys that apply, as in the configuration, in their canonical form; those of a preset included."""
    preset: str = ""
    """The named set that they are based on; empty for none."""
    seed: int | None = None
    """The seed, given or random; null without an impairment. With it, both directions make the same decisions
    again."""
    held_frames: int = 0
    """Frames that are held now."""


@dataclass(frozen=True)
class PairImpairment(Model):
    """The impairment of a half, or of both directions of a pair."""

    interface: str
    """The half or the pair."""
    directions: list[DirectionImpairment] = field(default_factory=list)
    """One for a half, two for a pair."""
    round_trip: str = ""
    """What the delays of both directions add: `adds 200ms to a round trip`; empty for nothing."""
    expires_in: float | None = None
    """Seconds after which the impairment of before applies again; null where it does not expire."""

    @classmethod
    def arguments(cls, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields' values, with the directions parsed."""
        directions = [DirectionImpairment.parse(each) for each in document["directions"]]
        return {**super().arguments(document), "directions": directions}
