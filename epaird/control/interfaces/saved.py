"""Interfaces as they are written to the state file, for the next control plane.

The names of the fields are keys of the file, which programs of other versions read: they do not change, and
a new one has a default.

epaird 0.2.0 reads this file too, but refuses a key of an interface's settings that it does not know. A key
that is newer is therefore written only with another value than its default, which must not change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, SerializerFunctionWrapHandler, WrapSerializer

from epaird.config.settings import LoopbackSettings, PairSettings, namespace_name
from epaird.control.interfaces.ifnet import CarrierRule, Ifnet, ImpairmentExpiry, Origin
from epaird.control.interfaces.lines import OutgoingLine
from epaird.control.machine.host import Place
from epaird.ipc.impairment import LineSpec
from epaird.kernel.namespace import Identity
from epaird.kernel.printable import canonical
from epaird.names.cloners import Side

NEWER: Final[Mapping[str, object]] = {"pmtu": True, "metric": None, "schedule": [], "impair": {}}
"""Keys of settings that epaird 0.2.0 does not know, with their defaults."""


def _without_newer(written: Any) -> Any:  # noqa: ANN401
    """Return settings as they are written, without newer keys that have their default."""
    if isinstance(written, dict):
        return {
            key: value if key == "impair" else _without_newer(value)
            for key, value in written.items()
            if key not in NEWER or (list(value) if isinstance(value, tuple) else value) != NEWER[key]
        }
    if isinstance(written, (list, tuple)):
        return [_without_newer(each) for each in written]
    return written


def _write(settings: Any, write: SerializerFunctionWrapHandler) -> Any:  # noqa: ANN401
    return _without_newer(write(settings))


SavedPairSettings = Annotated[PairSettings, WrapSerializer(_write)]
"""Settings of a pair, which every version reads as far as it has what they say."""
SavedLoopbackSettings = Annotated[LoopbackSettings, WrapSerializer(_write)]
"""Settings of a loopback, likewise."""


class SavedPlace(BaseModel):
    """The place of a device."""

    name: str
    index: int
    netns: str
    nsid: int | None
    identity: tuple[int, int]

    @classmethod
    def of(cls, place: Place) -> SavedPlace:
        """Return a place in this form."""
        return cls(
            name=place.name,
            index=place.index,
            netns=place.netns,
            nsid=place.nsid,
            identity=tuple(place.identity),
        )

    def place(self) -> Place:
        """Return the place. epaird 0.3.0 wrote names as the kernel has them."""
        return Place(
            canonical(self.name), self.index, canonical(self.netns), self.nsid, Identity(*self.identity)
        )


class SavedDevice(BaseModel):
    """A device of any kind."""

    name: str
    """Name that it keeps for life."""
    slots: tuple[int, ...]
    tap_index: int
    offloads: int
    missing: tuple[str, ...]
    place: SavedPlace
    mtu: int
    up: bool
    carrier: bool
    bases: tuple[int, ...]
    """Bases of its cable, one for each queue; empty while it has no cable."""
    placed: tuple[int, int] | None = None
    """Device and inode of the namespace to which its configured name led when it was last seen there."""

    @classmethod
    def of(cls, ifnet: Ifnet) -> SavedDevice:
        """Return an interface's device in this form."""
        return cls(
            name=ifnet.device,
            slots=ifnet.slots,
            tap_index=ifnet.tap.index,
            offloads=ifnet.tap.offloads,
            missing=ifnet.tap.missing,
            place=SavedPlace.of(ifnet.place),
            mtu=ifnet.mtu,
            up=ifnet.up,
            carrier=ifnet.carrier,
            bases=ifnet.cable.bases(ifnet) if ifnet.cable is not None else (),
            placed=ifnet.placed,
        )

    def placed_in(self, netns: str | None) -> Identity | None:
        """Return ``placed`` of a device whose configured namespace is ``netns``.

        epaird 0.2.0 did not record it; the device then was placed where it is, unless others moved it."""
        if self.placed is not None:
            return Identity(*self.placed)
        unmoved = namespace_name(netns) == namespace_name(self.place.netns)
        return Identity(*self.place.identity) if unmoved else None


class SavedLine(BaseModel):
    """The line of a half."""

    slot: int
    spec: LineSpec | None = None
    """The impairment that applies; None for none."""
    draining: bool = False
    """True where it has none and may still hold frames."""
    seed: int | None = None
    """The seed of both directions."""
    trace: str = ""
    """The path of its trace."""

    @property
    def files(self) -> int:
        """The number of its descriptors: the ring's, and those of a trace and a replay."""
        return 1 + (self.spec is not None and self.spec.trace + self.spec.replay)

    @classmethod
    def of(cls, line: OutgoingLine) -> SavedLine:
        """Return a line in this form."""
        return cls(slot=line.slot, spec=line.spec, draining=line.draining, seed=line.seed, trace=line.trace)


class SavedHalf(BaseModel):
    """A half."""

    device: SavedDevice
    side: Side
    mac: str
    peer: str | None
    """Name of the half it is patched to."""
    line: SavedLine | None = None
    """The impairment of what it transmits; None if it never had one."""


class SavedPair(BaseModel):
    """A pair."""

    name: str
    settings: SavedPairSettings
    origin: Origin
    workers: tuple[int, ...]
    halves: tuple[SavedHalf, SavedHalf]
    plugged: CarrierRule = "peer"
    said: SavedPairSettings | None = None
    """Its settings in the configuration, where the present ones differ."""
    expiry: ImpairmentExpiry | None = None
    """When its impairment expires."""
    scheduled_ns: int = 0
    """CLOCK_MONOTONIC when the schedule of its carrier was applied."""

    @property
    def devices(self) -> tuple[SavedDevice, ...]:
        """The devices of both halves."""
        return tuple(half.device for half in self.halves)

    @property
    def lines(self) -> dict[str, SavedLine]:
        """The lines of its halves, by the name of the device."""
        return {half.device.name: half.line for half in self.halves if half.line is not None}


class SavedLoopback(BaseModel):
    """A loopback."""

    device: SavedDevice
    settings: SavedLoopbackSettings
    origin: Origin
    worker: int
    said: SavedLoopbackSettings | None = None
    """Its settings in the configuration, where the present ones differ."""

    @property
    def name(self) -> str:
        """Name of the loopback."""
        return self.device.name

    @property
    def devices(self) -> tuple[SavedDevice, ...]:
        """Its one device."""
        return (self.device,)

    @property
    def lines(self) -> dict[str, SavedLine]:
        """No lines."""
        return {}


SavedClone = SavedPair | SavedLoopback
