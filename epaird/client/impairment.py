"""Impairments as the API answers with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from epaird.client.base import Model
from epaird.client.counters import LineCounters


@dataclass(frozen=True)
class ExpectedImpairment(Model):
    """What an impairment is expected to do outside its schedule, by formula from its keys."""

    delay_seconds: float = 0.0
    """Mean of the one-way delay."""
    loss_ratio: float = 0.0
    """Share of segments that are lost, on average."""
    loss_burst: float | None = 0.0
    """Mean length of a run of losses; 0 without losses, null where every segment is lost."""
    bits_per_second: int = 0
    """Rate on the wire, Ethernet overhead included; 0 is no limit."""
    held_bytes: int = 0
    """Bytes that wait for the delay at the full rate; 0 without a rate."""


@dataclass(frozen=True)
class LineStatistics(Model):
    """The impairment of what one half transmits: what is expected, and what was done."""

    device: str
    """The half that transmits: `epair0a`."""
    peer: str
    """The half that receives; empty where it is patched to none."""
    applied: bool
    """True while it is impaired; False for what is left of an impairment that was removed."""
    expected: ExpectedImpairment
    """What the keys are expected to do."""
    counters: LineCounters
    """What was done since the first impairment of the half."""

    @classmethod
    def arguments(cls, document: Mapping[str, Any]) -> dict[str, Any]:
        return super().arguments(document) | _parsed(document)


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
    replaying: bool = False
    """True while it repeats decisions; a change of the impairment ends that."""
    held_frames: int = 0
    """Frames that are held now."""
    expected: ExpectedImpairment = field(default_factory=ExpectedImpairment)
    """What the keys are expected to do."""
    counters: LineCounters = field(default_factory=LineCounters)
    """What was done since the first impairment of the half."""

    @classmethod
    def arguments(cls, document: Mapping[str, Any]) -> dict[str, Any]:
        return super().arguments(document) | _parsed(document)


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
    """Seconds after which the former impairment applies again; null where it does not expire."""

    @classmethod
    def arguments(cls, document: Mapping[str, Any]) -> dict[str, Any]:
        directions = [DirectionImpairment.parse(each) for each in document["directions"]]
        return super().arguments(document) | {"directions": directions}


def _parsed(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "expected": ExpectedImpairment.parse(document.get("expected", {})),
        "counters": LineCounters.parse(document.get("counters", {})),
    }
