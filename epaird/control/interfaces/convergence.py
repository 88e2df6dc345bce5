"""Convergence: devices get the addresses, routes and policy rules that their settings give them.

The kernel removes more than it is asked to: a device that is set down loses its IPv6 addresses and all
routes, secondary addresses are removed with their primary, and all IPv4 routes with the last IPv4 address. So
no change is computed from two settings.

1. The wanted state of a device follows from its settings and its present flags (:func:`wanted`).
2. A change sets the simple properties of all devices that it touches first. Then the host converges all of
   them together, so that an address or a route can move from one of them to another.
3. When a device of ours comes up, or again has an MTU that IPv6 works with, everything that the kernel
   removed is restored. Addresses, routes and rules that others removed are restored by a reload only.
4. All of this holds one lock: a repair during a change would restore what the change is about to remove.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_interface
from types import MappingProxyType
from typing import Final

from epaird.config.settings import DeviceSettings, LoopbackSettings
from epaird.control.interfaces.ifnet import Ifnet, is_away, link_settings
from epaird.control.machine.host import Host, Place
from epaird.control.tasks import spawn
from epaird.kernel.abi import IPV6_MIN_MTU
from epaird.kernel.convergence import Scope, Target
from epaird.kernel.difference import missing
from epaird.kernel.errors import KernelError
from epaird.kernel.link import Address, LinkSettings
from epaird.kernel.state import DeviceState
from epaird.plan.steps import Restore

log = logging.getLogger(__name__)

_GONE: Final = frozenset((errno.ENODEV, errno.ENOENT, errno.ENXIO, errno.EBADFD, errno.ESTALE))
"""Errors of a device or a namespace that no longer exists or was moved, which is reported elsewhere."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A device and its wanted state."""

    ifnet: Ifnet
    """The device."""
    wanted: LinkSettings
    """Its wanted addresses, routes and rules."""
    released: LinkSettings | None = None
    """Those that were wanted before; None: nothing is removed."""
    needed: bool = True
    """False if the operation changes nothing of the device. Others may have replaced something then, which is
    no reason to fail."""


NO_SETTINGS: Final[Mapping[str, DeviceSettings]] = MappingProxyType({})
"""Settings of no device."""
NOTHING: Final = LinkSettings(mtu=0, txqueuelen=0)
"""No addresses, routes and rules."""


def wanted(ifnet: Ifnet, settings: DeviceSettings | None = None) -> LinkSettings:
    """Return what a device is to have with settings (None: its own) in its present state.

    With an MTU that its owner has given it and that IPv6 does not work with, it is to have no IPv6 addresses,
    and with IFF_UP cleared no routes."""
    settings = settings or ifnet.settings
    found = replace(link_settings(settings), up=ifnet.up, policy_table=_table(ifnet, settings))
    if ifnet.mtu < IPV6_MIN_MTU <= settings.mtu:
        found = replace(found, addresses=_ipv4(found.addresses))
    return found


class Convergence:
    """Converges the daemon's devices, one operation at a time."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.lock = asyncio.Lock()
        """Held while devices are changed or repaired."""
        self._damaged: dict[Ifnet, None] = {}
        """Devices that are to be repaired, in order."""
        self._repairing: asyncio.Task[None] | None = None
        self._reported: dict[Ifnet, str] = {}
        """The last failure of each device's repair, which was logged."""

    async def converge(self, goals: Iterable[Goal]) -> list[KernelError]:
        """Give devices what they are to have; return the failures, at most one for each device.

        The failure to restore a device that the operation does not change is only logged. The caller holds
        the lock."""
        goals = tuple(goals)
        found = await self._converge(
            [(each.ifnet, _target(each.ifnet, each.wanted, each.released)) for each in goals]
        )
        for goal, failure in zip(goals, found, strict=True):
            if not goal.needed:
                self._report(goal.ifnet, failure)
        return [each for goal, each in zip(goals, found, strict=True) if each is not None and goal.needed]

    def repair(self, ifnet: Ifnet) -> None:
        """Restore what the kernel removed from a device that was down for a while; return at once.

        A request for a device that already waits is part of the earlier request."""
        if ifnet.destroying:
            return
        self._damaged[ifnet] = None
        if self._repairing is None:
            self._repairing = spawn(self._repair(), "restoring addresses and routes")

    def repair_all(self, ifnets: Iterable[Ifnet]) -> None:
        """Repair the devices that are up and of which the kernel may have taken something; return at once.

        Events may have been missed. The state of a device without IPv6 addresses and routes is not read."""
        for ifnet in ifnets:
            if ifnet.up and (_losable(found := wanted(ifnet)) or found.policy_table is not None):
                self.repair(ifnet)

    async def repair_unseen(self, ifnets: Iterable[Ifnet]) -> None:
        """Repair the devices that lack everything that a flap removes: the kernel has reported none.

        Raises KernelError."""
        by_device = {each.device: each for each in ifnets if each.up and _losable(wanted(each))}
        if by_device:
            for lacking in await self.lacks(by_device.values()):
                ifnet = by_device[lacking.device]
                if _losable(wanted(ifnet)) <= {*lacking.addresses, *lacking.routes}:
                    self.repair(ifnet)

    async def repaired(self) -> None:
        """Wait until no device is to be repaired."""
        while self._repairing is not None:
            await asyncio.wait((self._repairing,))

    def forget(self, ifnet: Ifnet) -> None:
        """Cancel the repair of a device that is being destroyed."""
        self._damaged.pop(ifnet, None)
        self._reported.pop(ifnet, None)

    async def leave(self, ifnet: Ifnet, place: Place) -> None:
        """Remove a device's policy rules from a namespace, which it has left or is about to leave."""
        table = _table(ifnet, ifnet.settings)
        if table is None:
            return
        target = Target(ifnet.device, place.index, NOTHING, replace(NOTHING, policy_table=table))
        async with self.lock:
            for failure in await self._host.converge([(ifnet.tap, place, target)]):
                if failure is not None and failure.errno not in _GONE:
                    log.warning("%s: its rules were not removed", failure)

    async def lacks(
        self, ifnets: Iterable[Ifnet], configured: Mapping[str, DeviceSettings] = NO_SETTINGS
    ) -> tuple[Restore, ...]:
        """Return what devices lack, for each that lacks anything. Raises KernelError.

        A device lacks nothing where others have moved it to, unless the ``configured`` settings of the device
        name that namespace. One that is down does not lack what the kernel removed with that."""
        ours = [
            each
            for each in ifnets
            if not each.destroying
            and not _is_nothing(_kept(each))
            and not is_away(each.place, configured.get(each.device, each.settings))
        ]
        found = await self._host.present({each.tap: each.place for each in ours})
        lacking = []
        for each in ours:
            state = found.get(each.tap)
            if state is not None and not (restore := _restore(each, state)).empty:
                lacking.append(restore)
        return tuple(lacking)

    async def _repair(self) -> None:
        try:
            while self._damaged:
                async with self.lock:
                    batch = tuple(self._damaged)
                    self._damaged.clear()
                    failures = await self._converge([(each, _repaired(each)) for each in batch])
                for ifnet, failure in zip(batch, failures, strict=True):
                    self._report(ifnet, failure)
        finally:
            self._repairing = None

    async def _converge(self, targets: Sequence[tuple[Ifnet, Target]]) -> list[KernelError | None]:
        carried_out = [(ifnet.tap, ifnet.place, target) for ifnet, target in targets]
        return await self._host.converge(carried_out) if carried_out else []

    def _report(self, ifnet: Ifnet, failure: KernelError | None) -> None:
        """Log the failure of a repair, once for each cause."""
        if failure is None:
            self._reported.pop(ifnet, None)
        elif not ifnet.destroying and failure.errno not in _GONE:
            if self._reported.get(ifnet) != str(failure):
                log.warning("%s: not restored; epairctl plan shows what is missing", failure)
            self._reported[ifnet] = str(failure)


def _table(ifnet: Ifnet, settings: DeviceSettings) -> int | None:
    return ifnet.table if isinstance(settings, LoopbackSettings) and settings.policy_routing else None


def _losable(settings: LinkSettings) -> frozenset[str]:
    """Return what a device loses when it goes down."""
    ipv4 = _ipv4(settings.addresses)
    return frozenset(
        (*(str(each) for each in settings.addresses if each not in ipv4), *map(str, settings.routes))
    )


def _ipv4(addresses: Iterable[Address]) -> tuple[Address, ...]:
    return tuple(each for each in addresses if ip_interface(each.address).version == 4)


def _is_nothing(settings: LinkSettings) -> bool:
    """Return whether settings have no addresses, routes and rules, so that a device can lack none."""
    return not settings.addresses and not settings.routes and settings.policy_table is None


def _kept(ifnet: Ifnet) -> LinkSettings:
    """Return the settings that a device must have in its present state.

    When a device that is down has no IPv6 addresses, it was the kernel that removed them."""
    found = wanted(ifnet)
    return found if ifnet.up else replace(found, addresses=_ipv4(found.addresses))


def _restore(ifnet: Ifnet, state: DeviceState) -> Restore:
    """Return what a device lacks in a state. The queueing discipline is nothing that a file can give it."""
    kept = _kept(ifnet)
    lacks = missing(state, kept)
    present = {each.address for each in state.addresses}
    absent = [each for each in lacks.addresses if each not in present]
    # Those after an absent one are added again, too, but are no more than that.
    there = replace(kept, addresses=tuple(each for each in kept.addresses if each not in absent))
    return Restore(
        ifnet.device,
        addresses=tuple(map(str, absent)),
        misplaced=tuple(map(str, missing(state, there).addresses)),
        routes=tuple(map(str, lacks.routes)),
        rules=tuple(map(str, lacks.rules)),
    )


def _repaired(ifnet: Ifnet) -> Target:
    """Return the target of a repair: the queueing discipline alone where others have moved a device."""
    return _target(ifnet, NOTHING if ifnet.away else wanted(ifnet), scope=Scope.TAKEN_ALONG)


def _target(
    ifnet: Ifnet, then: LinkSettings, released: LinkSettings | None = None, scope: Scope = Scope.ALL
) -> Target:
    return Target(ifnet.device, ifnet.place.index, then, released, scope)
