"""Tracking of the place and state of every device, by the kernel's link events.

A change is reported once: as an event, in the log, and to the interface's owner. Addresses, routes and rules
that the kernel removed with a change are restored. Changes of one device are handled at a limited rate
(:mod:`epaird.control.interfaces.pacing`).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import time
from collections.abc import Container, Sequence
from typing import Any, Final, Protocol, TypeVar

from epaird.control.interfaces.convergence import Convergence
from epaird.control.interfaces.events import EventBus
from epaird.control.interfaces.flags import Flags
from epaird.control.interfaces.ifnet import Ifnet
from epaird.control.interfaces.measuring import measured
from epaird.control.interfaces.pacing import Pacing
from epaird.control.machine.host import Host, Place
from epaird.kernel.abi import IPV6_MIN_MTU
from epaird.kernel.errors import KernelError
from epaird.kernel.requirements import missing_optional
from epaird.kernel.watch import Key, LinkEvent, LinkEventKind

log = logging.getLogger(__name__)

POLL_S: Final = 1.0
"""Polling interval where the kernel reports no events: each poll requests the state of every interface."""
CHECK_PAUSE_S: Final = 1.0
"""Least time between two checks of every interface because of lost link events."""
CHECK_SHARE: Final = 20
"""At most 1/CHECK_SHARE of the time goes into such checks."""

I_contra = TypeVar("I_contra", bound=Ifnet, contravariant=True)


class IfnetOwner(Protocol[I_contra]):
    """Receives the changes of the interfaces that it has registered."""

    def lost(self, ifnet: I_contra) -> None:
        """Handle a device that no longer exists."""

    def mtu_changed(self, ifnet: I_contra) -> None:
        """Handle another MTU."""

    def up_changed(self, ifnet: I_contra) -> None:
        """Handle a device that was set up or down."""

    def moved(self, ifnet: I_contra, before: Place) -> None:
        """Handle a device that was moved to another namespace."""


class Tracker:
    """All interfaces that are tracked."""

    def __init__(self, host: Host, bus: EventBus, convergence: Convergence, flags: Flags) -> None:
        self._host = host
        self._bus = bus
        self._convergence = convergence
        self._flags = flags
        self._owners: dict[Ifnet, IfnetOwner[Any]] = {}
        self._at: dict[Key, Ifnet] = {}
        self._by_device: dict[str, Ifnet] = {}
        self._pacing = Pacing(self._changed, self._changed_late)
        self._check_after = -math.inf
        """Time before which lost link events cause no check."""
        self._checking: asyncio.TimerHandle | None = None
        """The timer of a check that is due."""

    @property
    def known(self) -> Container[Key]:
        """The devices whose link events concern this object."""
        return self._at.keys()

    def track(self, ifnet: Ifnet, owner: IfnetOwner[Any]) -> None:
        """Track an interface from now on, and report what has happened to it before."""
        self._owners[ifnet] = owner
        self._by_device[ifnet.device] = ifnet
        self._at[_key(ifnet.place)] = ifnet
        self._flags.record(ifnet)
        self.check(ifnet)

    def untrack(self, ifnet: Ifnet) -> None:
        """Stop tracking an interface."""
        if self._owners.pop(ifnet, None) is not None:
            del self._by_device[ifnet.device]
            self._forget_place(ifnet)
            self._convergence.forget(ifnet)
            self._pacing.forget(ifnet)

    def link_event(self, event: LinkEvent) -> None:
        """Handle a link event of any device."""
        match event.kind:
            case LinkEventKind.OVERRUN:
                self._overrun()
            case LinkEventKind.NAMESPACE_GONE:
                # Some may be in another namespace, which has the id now, and had events of the old one.
                self.examine([each for each in self._owners if each.place.nsid == event.nsid])
            case LinkEventKind.NAME_GONE:
                for ifnet in tuple(self._owners):
                    if ifnet.place.identity == event.identity:
                        self._lose(ifnet)
            case _:
                found = self._at.get(event.key)
                if found is not None:
                    self._pacing.happened(found, event)

    def device_gone(self, device: str) -> None:
        """Handle a worker's report that a device no longer exists."""
        if device in self._by_device:
            self._lose(self._by_device[device])

    def check(self, ifnet: Ifnet, *, left: bool = False) -> bool:
        """Look up where a device is and report changes; return False when it no longer exists.

        ``left`` is True when it has left its place; it may be there again."""
        before = ifnet.place
        try:
            place = self._host.find(ifnet.tap, before, left=left)
        except KernelError as error:
            if error.errno == errno.EBADFD:
                self._lose(ifnet)
            else:
                log.warning("%s: %s", ifnet.device, error)
            return False
        if place != before:
            self.record(ifnet, place)
        return True

    def record(self, ifnet: Ifnet, place: Place) -> None:
        """Record and report that a device is in another place, or has another name."""
        before = ifnet.place
        self._forget_place(ifnet)
        ifnet.place = place
        self._at[_key(place)] = ifnet
        if place.identity != before.identity:
            log.warning(
                "%s: moved from %s to %s, where it is down and without addresses until its new owner "
                "configures it",
                ifnet.device, describe(before), describe(place),
            )  # fmt: skip
            self._bus.publish("moved", ifnet.device, f"{describe(before)} -> {describe(place)}")
            self._owners[ifnet].moved(ifnet, before)
            self._set_up(ifnet, self._host.is_up(ifnet.tap))
            if ifnet.up:
                self._convergence.repair(ifnet)
        else:
            log.warning("%s: renamed from %s to %s", ifnet.device, before.name, place.name)
        if place.name != before.name:
            self._bus.publish("renamed", ifnet.device, f"{before.name} -> {place.name}")

    def _changed(self, ifnet: Ifnet, event: LinkEvent) -> None:
        """Handle the change of a device that is tracked."""
        if not self.check(ifnet, left=event.had_left or event.kind is LinkEventKind.DELETED):
            return
        if event.key != _key(ifnet.place):
            # The events of its new place were not read, or are still to come.
            self.measure([ifnet])
        elif event.kind is LinkEventKind.NEW:
            self._compare(
                ifnet, event.mtu, event.up, event.lower_up,
                least_mtu=event.least_mtu, was_down=event.was_down,
            )  # fmt: skip

    def _changed_late(self, ifnet: Ifnet, event: LinkEvent) -> None:
        """Handle a change some time after it was reported.

        The device may have changed again, and changes by this process are recorded at once. So its present
        state is looked up."""
        if not self.check(ifnet, left=event.had_left or event.kind is LinkEventKind.DELETED):
            return
        ours = event.kind is LinkEventKind.NEW and event.key == _key(ifnet.place)
        self.measure([ifnet], event if ours else None)

    def _overrun(self) -> None:
        """Check every interface soon, because link events were lost."""
        if self._checking is None:
            loop = asyncio.get_running_loop()
            pause = self._check_after - loop.time()
            if pause > 0:
                self._checking = loop.call_later(pause, self._check_after_overrun)
            else:
                self._check_after_overrun()

    def _check_after_overrun(self) -> None:
        self._checking = None
        log.warning("the kernel has dropped link events: checking every interface")
        began = time.monotonic()
        self.check_all()
        took = time.monotonic() - began
        self._check_after = asyncio.get_running_loop().time() + max(CHECK_PAUSE_S, CHECK_SHARE * took)

    def _compare(
        self,
        ifnet: Ifnet,
        mtu: int,
        up: bool,
        lower_up: bool,
        *,
        least_mtu: int = 0,
        was_down: bool = False,
    ) -> None:
        """Compare the reported state of an interface with its recorded state.

        ``least_mtu`` and ``was_down`` are what it had for a moment since it was last compared."""
        if mtu:
            regains_ipv6 = min(ifnet.mtu, least_mtu or mtu) < IPV6_MIN_MTU <= mtu
            if mtu != ifnet.mtu:
                ifnet.mtu = mtu
                log.info("%s: mtu is %d now", ifnet.device, mtu)
                self._owners[ifnet].mtu_changed(ifnet)
            if regains_ipv6:
                self._convergence.repair(ifnet)
        if up != ifnet.up or was_down:
            # The report may be outdated. is_up() may be wrong for a device whose sndbuf is full.
            self._set_up(ifnet, up if ifnet.bounded else self._host.is_up(ifnet.tap))
            if ifnet.up:
                # It has come up, or it was down for a moment.
                self._convergence.repair(ifnet)
        self._flags.record(ifnet)
        if lower_up != ifnet.carrier:
            ifnet.carrier = lower_up
            if lower_up or ifnet.up:
                self._bus.publish("carrier" if lower_up else "nocarrier", ifnet.device)

    def _set_up(self, ifnet: Ifnet, up: bool) -> None:
        if up != ifnet.up:
            ifnet.up = up
            self._bus.publish("up" if up else "down", ifnet.device)
            self._owners[ifnet].up_changed(ifnet)

    async def poll_namespaces(self) -> None:
        """Poll the interfaces in other namespaces, of which the kernel reports nothing, until cancelled."""
        warned = False
        while True:
            await asyncio.sleep(POLL_S)
            away = [ifnet for ifnet in self._owners if ifnet.place.nsid is not None]
            if away and not warned:
                warned = True
                for line in missing_optional():
                    log.warning("%s", line)
            self.examine(away)
            try:
                await self._convergence.repair_unseen(each for each in away if each in self._owners)
            except KernelError as error:
                log.warning("%s", error)

    def check_all(self) -> None:
        """Look up the state of every interface, where events may have been missed, and repair it."""
        self.examine(tuple(self._owners))
        self._convergence.repair_all(self._owners)

    def examine(self, ifnets: Sequence[Ifnet]) -> None:
        """Look up the state of interfaces and report changes."""
        self.measure([ifnet for ifnet in ifnets if self.check(ifnet)])

    def measure(self, ifnets: Sequence[Ifnet], since: LinkEvent | None = None) -> None:
        """Look up the state of interfaces whose places are known, and report changes.

        ``since`` is what they were before, for a moment."""
        least_mtu = min(filter(None, (since.mtu, since.least_mtu)), default=0) if since is not None else 0
        was_down = since is not None and (since.was_down or not since.up)
        try:
            found = measured(self._host, ifnets)
        except KernelError as error:
            log.warning("%s", error)
            return
        for ifnet, statistics in found.items():
            if ifnet in self._owners:
                self._compare(
                    ifnet, statistics.mtu, statistics.up, statistics.lower_up,
                    least_mtu=least_mtu, was_down=was_down,
                )  # fmt: skip

    def _lose(self, ifnet: Ifnet) -> None:
        owner = self._owners.get(ifnet)
        if owner is not None:
            owner.lost(ifnet)

    def _forget_place(self, ifnet: Ifnet) -> None:
        key = _key(ifnet.place)
        if self._at.get(key) is ifnet:
            del self._at[key]


def describe(place: Place) -> str:
    """Return the namespace of a place in words."""
    return f"namespace {place.netns}" if place.netns else "the daemon's own namespace"


def _key(place: Place) -> Key:
    return place.nsid, place.index
