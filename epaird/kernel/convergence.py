"""Convergence: give devices the addresses, routes and rules that they are to have.

1. What the devices have is read from the kernel; nothing is concluded from earlier settings, because the
   kernel takes more along than it is asked to: addresses and routes with a device that goes down, secondary
   addresses with their primary, routes with the last address of a device.
2. The difference is computed, for all devices together: a default route may move from one to another.
3. Removals precede additions, on all devices.
4. This repeats until nothing differs, or until the kernel has refused the same requests twice.

Only what was set for a device is removed. What others added stays; if the kernel takes it along with
something that must be removed, it is added again.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from epaird.kernel.errors import KernelError
from epaird.kernel.link import LinkSettings
from epaird.kernel.netlink import RouteSocket


class Scope(enum.Enum):
    """The extent of a convergence."""

    ALL = enum.auto()
    """Everything."""
    TAKEN_ALONG = enum.auto()
    """Only what the kernel takes along when a device goes down, moves or is renamed: IPv6 addresses, routes,
    rules, the queueing discipline. An absent IPv4 address was removed by somebody; its routes are left out
    too."""


@dataclass(frozen=True, slots=True)
class Target:
    """A device that is to have certain settings."""

    device: str
    """The device's name in messages."""
    index: int
    """Interface index in the namespace."""
    wanted: LinkSettings
    """The settings; only addresses, routes and ``policy_table`` are considered."""
    released: LinkSettings | None = None
    """Settings that were in force before: what is in these and not in ``wanted`` is removed. None: nothing is
    removed."""
    scope: Scope = Scope.ALL
    """The extent."""


def converge(route: RouteSocket, targets: Sequence[Target]) -> list[KernelError | None]:
    """Give devices what they are to have; return, for each, the first refusal that remained, or None.

    ``route`` is a socket of the devices' namespace. A device that is down gets no routes. A target without
    addresses, routes and ``policy_table`` in ``wanted`` removes what was released. Raises KernelError when the
    state cannot be read.
    """
    raise NotImplementedError
