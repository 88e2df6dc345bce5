"""Changes in place: devices are given other settings while they forward.

A change of several interfaces is one operation: it succeeds as a whole, or everything is as before.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from epaird.config.immutable import IMMUTABLE
from epaird.config.settings import HalfSettings, LoopbackSettings
from epaird.control.interfaces.convergence import Convergence, Goal, wanted
from epaird.control.interfaces.ifnet import Ifnet
from epaird.control.interfaces.tracking import Tracker
from epaird.control.machine.host import Host
from epaird.control.operations import Refused
from epaird.kernel.errors import KernelError
from epaird.kernel.reconfigure import Properties

log = logging.getLogger(__name__)

_PROPERTIES: Final = ("mac", "mtu", "txqueuelen", "name", "up")


def refuse_fixed(name: str, before: Mapping[str, object], after: Mapping[str, object]) -> None:
    """Raise Refused, EINVAL, when a key differs that cannot be changed in place."""
    for key, immutable in IMMUTABLE.items():
        if before.get(key) != after.get(key):
            hint = immutable.instead or immutable.reason
            raise Refused(errno.EINVAL, f"{name}: {key} cannot be changed in place: {hint}")


class DeviceChange:
    """The change of one device to other settings."""

    def __init__(
        self,
        ifnet: Ifnet,
        after: HalfSettings | LoopbackSettings,
        *,
        mac: str | None = None,
        requested: Collection[str] = (),
    ) -> None:
        """``mac`` is the hardware address that the device is to have. Keys that were ``requested`` are set
        even if they are as recorded: the owner of the device may have changed them since."""
        self.ifnet = ifnet
        self.before, self.after = ifnet.settings, after
        self.mac = mac
        self._old = Properties(
            mac=ifnet.lladdr,
            mtu=ifnet.mtu,
            txqueuelen=self.before.txqueuelen,
            name=ifnet.place.name,
            up=ifnet.up,
        )
        new = Properties(
            mac=mac,
            mtu=after.mtu,
            txqueuelen=after.txqueuelen,
            name=after.name or ifnet.device,
            up=after.up,
        )
        differs = {
            "mac": mac != ifnet.lladdr,
            "name": after.name != self.before.name,
            **{key: getattr(after, key) != getattr(self.before, key) for key in ("mtu", "txqueuelen", "up")},
        }
        keys = {key for key in _PROPERTIES if differs[key] or key in requested}
        self._new = _limited(new, keys)
        self._old = _limited(self._old, keys)
        self._released = wanted(ifnet)
        self._away = ifnet.away

    @property
    def goal(self) -> Goal:
        """The goal of the device, once its properties are set."""
        return Goal(self.ifnet, self._owned(wanted(self.ifnet, self.after)), self._released)

    @property
    def goal_before(self) -> Goal:
        """The goal that undoes the change, once the properties are as before."""
        return Goal(self.ifnet, self._owned(wanted(self.ifnet, self.before)), wanted(self.ifnet, self.after))

    async def set_properties(self, host: Host, tracker: Tracker) -> None:
        """Set the properties that differ. Raises KernelError; some may have been set."""
        await _set(host, tracker, self.ifnet, self._new)

    async def restore_properties(self, host: Host, tracker: Tracker) -> None:
        """Set the properties as they were. Raises KernelError for the first that cannot be set."""
        failures = []
        for key in reversed(_PROPERTIES):
        ...
