"""Convergence: devices get the addresses, routes and policy rules that their settings give them.

The kernel takes more along than it was asked to change: a device that is set down loses its IPv6 addresses and
all routes, a primary address that is removed takes its secondaries along, a rename detaches policy rules. So
no change is computed from two settings.

1. The wanted state of a device follows from its settings and from whether it is up (:func:`wanted`).
2. A change sets the simple properties of all devices that it touches first, and has the host converge all of
   them together afterwards, so that an address or a route can move from one of them to another.
3. Whenever a device of ours comes up, is renamed, or regains IPv6, what the kernel takes in such an event is
   restored. What others removed stays removed until a reload.
4. All of this holds one lock. A repair during a change would put back what the change is about to remove.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_interface
from typing import Final

from epaird.config.settings import HalfSettings, LoopbackSettings
from epaird.control.interfaces.ifnet import Ifnet, link_settings
from epaird.control.machine.host import Host
from epaird.control.tasks import spawn
from epaird.kernel.convergence import Scope, Target
from epaird.kernel.errors import KernelError
from epaird.kernel.link import LinkSettings

log = logging.getLogger(__name__)

IPV6_MIN_MTU: Final = 1280
"""The kernel takes IPv6 away from a device with a smaller MTU (IPV6_MIN_MTU of linux/ipv6.h)."""
_GONE: Final = frozenset({errno.ENODEV, errno.ENOENT, errno.EBADFD, errno.ENXIO})
"""Errors of a device or a namespace that no longer exists, which is reported elsewhere."""


def wanted(
    ifnet: Ifnet, settings: HalfSettings | LoopbackSettings | None = None, *, mac: str | None = None
) -> LinkSettings:
    """Return the state that a device is to have with settings (None: its own) as it is now.

    A device that its owner has set down has no routes. One whose owner has given it an MTU without IPv6 has no
    IPv6 addresses."""
    settings = settings or ifnet.settings
    found = link_settings(settings, mac or ifnet.lladdr)
    if isinstance(settings, LoopbackSettings) and settings.policy_routing:
        found = replace(found, policy_table=ifnet.table)
    addresses = found.addresses
    if ifnet.mtu < IPV6_MIN_MTU <= settings.mtu:
        addresses = tuple(each for each in addresses if ip_interface(each.address).version == 4)
    return replace(found, up=ifnet.up, addresses=addresses)


class Convergence:
    """Converges the daemon's devices."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.lock = asyncio.Lock()
        """Held while devices are changed or repaired."""
        self._damaged: dict[Ifnet, None] = {}
        """Devices to be repaired, in order."""
        self._repairing = False
        self._reported: dict[Ifnet, str] = {}
        """The last failure of a device's repair that was logged."""

    async def converge(
        self, goals: Sequence[tuple[Ifnet, LinkSettings, LinkSettings | None]]
    ) -> list[KernelError | None]:
        """Give devices their wanted state, after removing what was wanted before; return the failure of each.

        A goal is a device, its wanted state, and the state that was wanted before. The lock is held."""
        return await self._host.converge(
            [
                (ifnet.tap, ifnet.place, _target(ifnet, then, released, Scope.ALL))
                for ifnet, then, released in goals
            ]
        )

    def repair(self, ifnet: Ifnet) -> None:
        """Restore what the kernel took from a device in a flap or a rename; return at once.

        Repeated requests for a device are one while it waits."""
        if ifnet.destroying:
            return
        self._damaged[ifnet] = None
        if not self._repairing:
            self._repairing = True
            spawn(self._repair_all(), "restoring addresses and routes")

    def forget(self, ifnet: Ifnet) -> None:
        """Repair a device no more: it is destroyed."""
        self._damaged.pop(ifnet, None)
        self._reported.pop(ifnet, None)

    async def _repair_all(self) -> None:
        try:
            while self._damaged:
                async with self.lock:
                    batch = tuple(self._damaged)
                    self._damaged.clear()
                    failures = await self._host.converge(
                        [(each.tap, each.place, _repaired(each)) for each in batch]
                    )
                for ifnet, failure in zip(batch, failures, strict=True):
                    self._report(ifnet, failure)
        finally:
            self._repairing = False

    def _report(self, ifnet: Ifnet, failure: KernelError | None) -> None:
        """Log the failure of a repair, once for each cause."""
        if failure is None:
            self._reported.pop(ifnet, None)
        elif not ifnet.destroying and failure.errno not in _GONE:
            if self._reported.get(ifnet) != str(failure):
                log.warning("%s: not restored after the device came up or was renamed", failure)
            self._reported[ifnet] = str(failure)


def _repaired(ifnet: Ifnet) -> Target:
    """Return the target of a repair: in a namespace that others chose, only the queueing discipline."""
    then = wanted(ifnet)
    if ifnet.away:
        then = replace(then, addresses=(), routes=(), policy_table=None)
    return _target(ifnet, then, None, Scope.TAKEN_ALONG)


def _target(ifnet: Ifnet, then: LinkSettings, released: LinkSettings | None, scope: Scope) -> Target:
    return Target(
        device=ifnet.device,
        index=ifnet.place.index,
        wanted=then,
        released=released,
        scope=scope,
    )
