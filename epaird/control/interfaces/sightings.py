"""Sightings: where every device is and how it is, as the kernel tells; what has changed is told once."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from epaird.control.interfaces.events import Bus
from epaird.control.interfaces.ifnet import Half, Ifnet
from epaird.control.machine.host import Host, Place
from epaird.kernel.errors import KernelError
from epaird.kernel.requirements import missing_optional
from epaird.kernel.statistics import LinkStatistics
from epaird.kernel.watch import LinkEvent, LinkEventKind

log = logging.getLogger(__name__)

LOOK_AGAIN_S: Final = 1.0
"""How often to look where nothing is told: each look asks the kernel about every interface there."""


class Owner(Protocol):
    """Who an interface belongs to, and learns what has become of it."""

    def lost(self, ifnet: Ifnet) -> None:
        """Its device is gone."""

    def resized(self, ifnet: Ifnet) -> None:
        """Its MTU is another."""

    def turned(self, ifnet: Ifnet) -> None:
        """It is up now, or down."""

    def moved(self, ifnet: Ifnet, before: Place) -> None:
        """It is in another namespace."""


class Sightings:
    """Everything that is watched."""

    def __init__(self, host: Host, bus: Bus) -> None:
        self._host = host
        self._bus = bus
        self._owners: dict[Ifnet, Owner] = {}
        self._at: dict[tuple[int | None, int], Ifnet] = {}
        self._by_device: dict[str, Ifnet] = {}

    def add(self, ifnet: Ifnet, owner: Owner) -> None:
        """Watch an interface from now on, and see what has happened to it before."""
        self._owners[ifnet] = owner
        self._by_device[ifnet.device] = ifnet
        self._at[_key(ifnet.place)] = ifnet
        self.look(ifnet)

    def remove(self, ifnet: Ifnet) -> None:
        """Watch it no more."""
        if self._owners.pop(ifnet, None) is not None:
            del self._by_device[ifnet.device]
            self._forget_place(ifnet)

    def happened(self, event: LinkEvent) -> None:
        """Something happened to a device, ours perhaps."""
        match event.kind:
            case LinkEventKind.OVERRUN:
                log.warning("the kernel has dropped link events: looking at every interface afresh")
                self.look_at_all()
            case LinkEventKind.NAMESPACE_GONE:
                for ifnet in tuple(self._owners):
                    if ifnet.place.nsid == event.nsid:
                        self._lose(ifnet)
            case _:
                found = self._at.get((event.nsid, event.index))
                if found is not None and self.look(found) and event.kind is LinkEventKind.NEW:
                    self._see(found, event.mtu, event.up, event.lower_up)

    def gone(self, device: str) -> None:
        """A worker has found a device vanished."""
        if device in self._by_device:
            self._lose(self._by_device[device])

    def look(self, ifnet: Ifnet) -> bool:
        """See where a device is, and say what has changed; False when it is not there any more."""
        before = ifnet.place
        try:
            place = self._host.find(ifnet.tap, before)
        except KernelError as error:
            if error.errno == errno.EBADFD:
                self._lose(ifnet)
            else:
                log.warning("%s: %s", ifnet.device, error)
            return False
        if place == before:
            return True
        self._forget_place(ifnet)
        ifnet.place = place
        self._at[_key(place)] = ifnet
        if place.identity != before.identity:
            log.warning(
                "%s: moved from %s to %s, where it is down and without addresses until somebody sees to it",
                ifnet.device, where(before), where(place),
            )  # fmt: skip
            self._bus.tell("moved", ifnet.device, f"{where(before)} -> {where(place)}")
            self._owners[ifnet].moved(ifnet, before)
            self._turn(ifnet, self._host.is_up(ifnet.tap))
        else:
            log.warning("%s: renamed from %s to %s", ifnet.device, before.name, place.name)
        if place.name != before.name:
            self._bus.tell("renamed", ifnet.device, f"{before.name} -> {place.name}")
        return True

    def _see(self, ifnet: Ifnet, mtu: int, up: bool, lower_up: bool) -> None:
        """Compare what was told of an interface with what was known of it."""
        if mtu and mtu != ifnet.mtu:
            ifnet.mtu = mtu
            log.info("%s: mtu is %d now", ifnet.device, mtu)
            self._owners[ifnet].resized(ifnet)
        if up != ifnet.up:
            # What is told may be of a while ago.  A device with a bound on what it takes may be full.
            bounded = isinstance(ifnet, Half) and ifnet.settings.sndbuf is not None
            self._turn(ifnet, up if bounded else self._host.is_up(ifnet.tap))
        if lower_up != ifnet.carrier:
            ifnet.carrier = lower_up
            if lower_up or ifnet.up:
                self._bus.tell("carrier" if lower_up else "nocarrier", ifnet.device)

    def _turn(self, ifnet: Ifnet, up: bool) -> None:
        if up != ifnet.up:
            ifnet.up = up
            self._bus.tell("up" if up else "down", ifnet.device)
            self._owners[ifnet].turned(ifnet)

    async def look_away(self) -> None:
        """For ever: see what becomes of interfaces in other namespaces, where the kernel does not tell."""
        said = False
        while True:
            await asyncio.sleep(LOOK_AGAIN_S)
            away = [ifnet for ifnet in self._owners if ifnet.place.nsid is not None]
            if away and not said:
                said = True
                for line in missing_optional():
                    log.warning("%s", line)
            self._look_at(away)

    def look_at_all(self) -> None:
        """See what has become of everything, where nothing was told of it."""
        self._look_at(tuple(self._owners))

    def _look_at(self, ifnets: Sequence[Ifnet]) -> None:
        there = [ifnet for ifnet in ifnets if self.look(ifnet)]
        try:
            found = measured(self._host, there)
        except KernelError as error:
            log.warning("%s", error)
            return
        for ifnet, statistics in found.items():
            if ifnet in self._owners:
                self._see(ifnet, statistics.mtu, statistics.up, statistics.lower_up)

    def _lose(self, ifnet: Ifnet) -> None:
        owner = self._owners.get(ifnet)
        if owner is not None:
            owner.lost(ifnet)

    def _forget_place(self, ifnet: Ifnet) -> None:
        key = _key(ifnet.place)
        if self._at.get(key) is ifnet:
            del self._at[key]


def measured(host: Host, ifnets: Iterable[Ifnet]) -> dict[Ifnet, LinkStatistics]:
    """What the kernel says of each that is there: one look at each namespace.  Raises KernelError."""
    those = tuple(ifnets)
    seen = {nsid: host.statistics(nsid) for nsid in {ifnet.place.nsid for ifnet in those}}
    return {
        ifnet: seen[ifnet.place.nsid][ifnet.place.index]
        for ifnet in those
        if ifnet.place.index in seen[ifnet.place.nsid]
    }


def where(place: Place) -> str:
    """A place in words."""
    return f"namespace {place.netns}" if place.netns else "the daemon's own namespace"


def _key(place: Place) -> tuple[int | None, int]:
    return place.nsid, place.index
