"""Convergence: devices get the addresses, routes and policy rules that their settings give them.

The kernel takes more along than it was asked to change: a device that is set down loses its IPv6 addresses
and all routes, a primary address that is removed takes its secondaries along, and the last IPv4 address all
IPv4 routes. So no change is computed from two settings.

1. The wanted state of a device follows from its settings and its present flags (:func:`wanted`).
2. A change sets the simple properties of all devices that it touches first. Then the host converges all of
   them together, so that an address or a route can move from one of them to another.
3. When a device of ours comes up, or has an MTU again that IPv6 works with, what the kernel took is restored.
   What others removed stays removed until a reload.
4. All of this holds one lock: a repair during a change would put back what the change is about to remove.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_interface
from typing import Final

from epaird.config.settings import HalfSettings, LoopbackSettings
from epaird.control.interfaces.ifnet import Ifnet, is_away, link_settings
from epaird.control.machine.host import Host, Place
from epaird.control.tasks import spawn
from epaird.kernel.convergence import Scope, Target
from epaird.kernel.difference import missing
from epaird.kernel.errors import KernelError
from epaird.kernel.link import Address, LinkSettings
from epaird.kernel.state import DeviceState
from epaird.kernel.tun import Tap
from epaird.plan.steps import Restore

log = logging.getLogger(__name__)

IPV6_MIN_MTU: Final = 1280
"""The kernel takes IPv6 away from a device with a smaller MTU (IPV6_MIN_MTU of linux/ipv6.h)."""
_GONE: Final = frozenset((errno.ENODEV, errno.ENOENT, errno.ENXIO, errno.EBADFD, errno.ESTALE))
"""Errors of a device or a namespace that no longer exists or was moved, which is reported elsewhere."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A device and what it is to have."""

    ifnet: Ifnet
    """The device."""
    wanted: LinkSettings
    """What it is to have."""
    released: LinkSettings | None = None
    """What it was to have before; None: nothing is removed."""


NOTHING: Final = LinkSettings(mtu=0, txqueuelen=0)
"""No addresses, routes and rules."""


def wanted(ifnet: Ifnet, settings: HalfSettings | LoopbackSettings | None = None) -> LinkSettings:
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
        self._repairing = False
        self._reported: dict[Ifnet, str] = {}
        """The last failure of each device's repair, which was logged."""

    async def converge(self, goals: Iterable[Goal]) -> list[KernelError]:
        """Give devices what they are to have; return what could not be done, at most one error a device.

        The caller holds the lock."""
        found = await self._converge(
            [(each.ifnet, _target(each.ifnet, each.wanted, each.released)) for each in goals]
        )
        return [failure for failure in found if failure is not None]

    def repair(self, ifnet: Ifnet) -> None:
        """Restore what the kernel took from a device that was down for a while; return at once.

        Requests for a device that waits already are the same request."""
        if ifnet.destroying:
            return
        self._damaged[ifnet] = None
        if not self._repairing:
            self._repairing = True
            spawn(self._repair(), "restoring addresses and routes")

    def forget(self, ifnet: Ifnet) -> None:
        """Do not repair a device any more, which is being destroyed."""
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
        self, ifnets: Iterable[Ifnet], configured: Mapping[str, HalfSettings | LoopbackSettings]
    ) -> tuple[Restore, ...]:
        """Return what devices lack, for each that lacks anything. Raises KernelError.

        A device lacks nothing where others have moved it to, unless the ``configured`` settings of the device
        name that namespace. One that its owner has set down does not lack what the kernel removed then."""
        ours = [
            each
            for each in ifnets
            if not each.destroying
            and _reachable(each)
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
            self._repairing = False

    async def _converge(self, targets: Sequence[tuple[Ifnet, Target]]) -> list[KernelError | None]:
        carried_out: list[tuple[Tap, Place, Target]] = [
            (ifnet.tap, ifnet.place, target) for ifnet, target in targets if _reachable(ifnet)
        ]
        found = iter(await self._host.converge(carried_out) if carried_out else ())
        return [next(found) if _reachable(ifnet) else None for ifnet, _ in targets]

    def _report(self, ifnet: Ifnet, failure: KernelError | None) -> None:
        """Log the failure of a repair, once for each cause."""
        if failure is None:
            self._reported.pop(ifnet, None)
        elif not ifnet.destroying and failure.errno not in _GONE:
            if self._reported.get(ifnet) != str(failure):
                log.warning("%s: not restored; epairctl plan shows what is missing", failure)
            self._reported[ifnet] = str(failure)


def _table(ifnet: Ifnet, settings: HalfSettings | LoopbackSettings) -> int | None:
    return ifnet.table if isinstance(settings, LoopbackSettings) and settings.policy_routing else None


def _ipv4(addresses: Iterable[Address]) -> tuple[Address, ...]:
    return tuple(each for each in addresses if ip_interface(each.address).version == 4)


def _kept(ifnet: Ifnet) -> LinkSettings:
    """Return what others must not have removed from a device in its present state."""
    found = wanted(ifnet)
    if ifnet.up or not ifnet.settings.up:
        return found
    return replace(found, addresses=_ipv4(found.addresses))


def _restore(ifnet: Ifnet, state: DeviceState) -> Restore:
    """Return what a device lacks in a state. The queueing discipline is nothing that a file can give it."""
    lacks = missing(state, _kept(ifnet))
    present = {each.address.address for each in state.addresses}
    return Restore(
        ifnet.device,
        addresses=tuple(str(each) for each in lacks.addresses if each.address not in present),
        misplaced=tuple(str(each) for each in lacks.addresses if each.address in present),
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


def _reachable(ifnet: Ifnet) -> bool:
    """Return whether a device's namespace has a name; only others can enter one that has none."""
    return ifnet.place.nsid is None or bool(ifnet.place.netns)
