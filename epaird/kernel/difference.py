"""The difference between what a device has and what it is to have, as values and as requests. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

from epaird.kernel.link import LinkSettings
from epaird.kernel.policy import Rule
from epaird.kernel.requests import Address, Route
from epaird.kernel.state import DeviceState


@dataclass(frozen=True, slots=True)
class Missing:
    """What a device lacks. False when it lacks nothing."""

    addresses: tuple[Address, ...] = ()
    """Addresses that are absent or precede one that they ought to follow."""
    routes: tuple[Route, ...] = ()
    """Absent routes; none for a device that is down, which cannot have routes."""
    rules: tuple[Rule, ...] = ()
    """Absent policy rules."""
    qdisc: bool = False
    """True when the device has the kernel's default queueing discipline instead of ``noqueue``."""

    def __bool__(self) -> bool:
        return bool(self.addresses or self.routes or self.rules or self.qdisc)


def missing(state: DeviceState, wanted: LinkSettings) -> Missing:
    """Return what a device lacks of its wanted settings.

    The result is false exactly when :func:`epaird.kernel.convergence.converge` has nothing to add. A route
    or an address that is there more than once, or that others added, is of no concern.
    """
    raise NotImplementedError
